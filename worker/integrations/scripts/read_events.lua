#!lua
-- Returns the entries of the events after a position, and whether any were trimmed before that.
--
-- KEYS  1 events
-- ARGV  1 position  2 most entries
-- Returns {entries; how many entries were ever added; how many of them are gone; the first entry's
--         id, or the last one where there is none; the last id that the stream gave}
if redis.call('EXISTS', KEYS[1]) == 0 then return {{}, 0, 0, '0-0', '0-0'} end
local info, is = redis.call('XINFO', 'STREAM', KEYS[1]), {}
for i = 1, #info, 2 do is[info[i]] = info[i + 1] end
local first = is['first-entry'] and is['first-entry'][1] or is['last-generated-id']
return {
  redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2]),
  is['entries-added'], is['entries-added'] - is['length'], first, is['last-generated-id'],
}

#!lua
-- Makes rows of the next items and moves the cursor behind them, in one step: a reader that dies
-- before it has read them in vain, one that dies after it will not read them again.
--
-- KEYS  1 backfill  2 backfill-open  3 backfill-results  4 due:bulk  5 marker
-- ARGV  1 key prefix  2 id  3 leader's token  4 number of the first item
--       5 position behind the last one  6 1 if the source ends there, else 0  7 marker or ""
--       8 what stands between the backfill's id and an item's number in a row id
--       9 what was passed over before the last one, as JSON of kind and count, or ""
--       then for each item 2 values: its text, or "" and the record of what is wrong with it
-- Returns {1, state} done, {0, state} fenced, or the cursor stands elsewhere
local prefix, backfill, first, separator = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[8]
redis.call('SCARD', KEYS[2]); redis.call('XLEN', KEYS[3]); redis.call('ZCARD', KEYS[4])
if ARGV[7] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[7] then
  return redis.error_reply('LEDGERLOST the marker is gone')
end
local is = redis.call('HMGET', KEYS[1], 'leader', 'read', 'state', 'entry')
if not is[1] or is[1] ~= ARGV[3] or is[2] ~= ARGV[4] or is[3] ~= 'running' then
  return {0, is[3] or ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- First what may be refused: rows that are made again are the same, results and counts are not.
local bad = {}
for i = 10, #ARGV, 2 do
  if ARGV[i] == '' then
    local entry = redis.pcall('XADD', KEYS[3], '*', 'result', ARGV[i + 1])
    if type(entry) == 'table' then
      if #bad > 0 then redis.call('XDEL', KEYS[3], unpack(bad)) end
      return entry
    end
    bad[#bad + 1] = entry
  end
end
if #bad > 0 then
  redis.call('HINCRBY', KEYS[1], 'failed', #bad)
  redis.call('HINCRBY', KEYS[1], 'failed:invalid_item', #bad)
end
local number = first
for i = 10, #ARGV, 2 do
  if ARGV[i] ~= '' then
    local id = backfill .. separator .. string.format('%d', number)
    redis.call('HSET', prefix .. 'row:' .. id, 't', 'predict', 'f', '', 's', 'accepted',
      'l', 'b', 'n', 0, 'a', 0, 'c', 0, 'm', now,
      'q', is[4] .. '-' .. string.format('%d', number), 'b', backfill)
    redis.call('SET', prefix .. 'text:' .. id, ARGV[i])
    redis.call('SADD', KEYS[2], id)
    redis.call('ZADD', KEYS[4], now, id)
  end
  number = number + 1
end
if ARGV[9] ~= '' then
  for kind, count in pairs(cjson.decode(ARGV[9])) do
    redis.call('HINCRBY', KEYS[1], 'passed:' .. kind, count)
  end
end
redis.call('HSET', KEYS[1], 'read', number, 'position', ARGV[5], 'exhausted', ARGV[6])
return {1, is[3]}

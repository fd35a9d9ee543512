#!lua
-- Has events that could not be sent wait again.
--
-- KEYS  1 sink  2 waiting  3 unsent
-- ARGV  1 first entry of the events that is wanted, in ms  2 where to begin among the unsent
--       3 most of these to look at
-- Returns {how many wait again; where to go on, or "" at the end}
--
-- Rights: HSET 2  XDEL 3  HINCRBY 1
redis.call('HLEN', KEYS[2]); redis.call('HLEN', KEYS[1])
local page = redis.call('XRANGE', KEYS[3], ARGV[2], '+', 'COUNT', ARGV[3])
local moved, last = 0, ''
for _, each in ipairs(page) do
  local is = {}
  for i = 1, #each[2], 2 do is[each[2][i]] = each[2][i + 1] end
  local ms = tonumber(string.match(is['entry'] or '', '^(%d+)-%d+$') or '')
  if ms and is['event'] and ms >= tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[2], is['entry'], is['event'])
    redis.call('XDEL', KEYS[3], each[1])
    moved = moved + 1
  end
  last = each[1]
end
-- Whoever leads the sink looks at what waits once this has changed.
if moved > 0 then redis.call('HINCRBY', KEYS[1], 'generation', 1) end
return {moved, #page < tonumber(ARGV[3]) and '' or last}

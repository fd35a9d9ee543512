#!lua
-- Has a follower begin again at an earlier position; whoever leads it goes there at its next record.
--
-- KEYS  1 follower
-- ARGV  1 position
-- Returns 1 it goes back, 0 it has not come so far, -1 there is no such follower
local is = redis.call('HGET', KEYS[1], 'position')
if not is then return -1 end
local function parts(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms or 0), tonumber(sequence or 0)
end
local ms, sequence = parts(is)
local to_ms, to_sequence = parts(ARGV[1])
if to_ms > ms or to_ms == ms and to_sequence >= sequence then return 0 end
-- How many entries there were up to it nobody knows.
redis.call('HSET', KEYS[1], 'position', ARGV[1], 'number', -1)
return 1

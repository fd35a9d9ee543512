#!lua flags=allow-oom
-- Extends leases that are still held; it allocates nothing, so a full Redis lets it through.
--
-- KEYS  1 due:interactive  2 due:bulk
-- ARGV  1 key prefix  2 lease in ms, then for each lease 3 values: row id, token, lane
-- Returns the row ids of leases that are lost.
--
-- Rights: HGET command:
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local due_at = time[1] * 1000 + math.floor(time[2] / 1000) + lease
local lost = {}
redis.call('ZCARD', KEYS[1]); redis.call('ZCARD', KEYS[2])
for i = 3, #ARGV, 3 do
  local id = ARGV[i]
  if redis.pcall('HGET', prefix .. 'command:' .. id, 'n') == ARGV[i + 1] then
    redis.call('ZADD', ARGV[i + 2] == 'b' and KEYS[2] or KEYS[1], 'XX', due_at, id)
  else
    lost[#lost + 1] = id
  end
end
return lost

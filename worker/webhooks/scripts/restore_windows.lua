#!lua
-- Puts windows back that stand nowhere, each at its time: the set was deleted.
--
-- KEYS  1 windows
-- ARGV  1 key prefix  2 1 once all windows were looked at, else 0  then ids of windows
-- Returns how many were put back
--
-- Rights: TYPE window:  LINDEX window:  ZSCORE 1  ZADD 1
local prefix, restored = ARGV[1], 0
for i = 3, #ARGV do
  local key = prefix .. 'window:' .. ARGV[i]
  if not redis.call('ZSCORE', KEYS[1], ARGV[i]) and redis.call('TYPE', key)['ok'] == 'list' then
    -- What others wrote is due at once, and told of then.
    local is_json, head = pcall(cjson.decode, redis.call('LINDEX', key, 0))
    local due = is_json and type(head) == 'table' and tonumber(head['due_at']) or 0
    redis.call('ZADD', KEYS[1], due, ARGV[i])
    restored = restored + 1
  end
end
if ARGV[2] == '1' then redis.call('ZADD', KEYS[1], '+inf', '') end
return restored

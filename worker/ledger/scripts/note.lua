#!lua
-- Records how far a run has come, before or after it changes something at the API.
--
-- KEYS  1 events  2 due:interactive  3 due:bulk
-- ARGV  1 key prefix  2 id  3 token  4 lane  5 lease in ms  6 state or ""  7 progress
--       8 event or ""  9 reply stream or ""  10 days kept by reply streams, in seconds
--       11 guard to take or ""  12 guard to drop or ""  13 seconds a guard is kept
-- Returns {1, ""} noted, {0, ""} fenced, {2, holder} where another command has the guard
local prefix, id = ARGV[1], ARGV[2]
local row = prefix .. 'row:' .. id
redis.call('XLEN', KEYS[1])
if redis.call('HGET', row, 'n') ~= ARGV[3] then return {0, ''} end
if ARGV[11] ~= '' then
  local holder = redis.call('GET', ARGV[11])
  if holder and holder ~= id then return {2, holder} end
  redis.call('SET', ARGV[11], id, 'EX', ARGV[13])
end
if ARGV[12] ~= '' and redis.call('GET', ARGV[12]) == id then redis.call('DEL', ARGV[12]) end
redis.call('HSET', row, 'p', ARGV[7])
if ARGV[6] ~= '' then redis.call('HSET', row, 's', ARGV[6]) end
local time = redis.call('TIME')
local due_at = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[5])
redis.call('ZADD', ARGV[4] == 'b' and KEYS[3] or KEYS[2], due_at, id)
if ARGV[8] ~= '' then
  redis.call('XADD', KEYS[1], '*', 'event', ARGV[8])
  if ARGV[9] ~= '' then
    redis.call('XADD', ARGV[9], '*', 'event', ARGV[8])
    redis.call('EXPIRE', ARGV[9], ARGV[10])
  end
end
return {1, ''}

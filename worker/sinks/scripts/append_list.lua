#!lua
-- Pushes an event to a list, unless it was pushed already.
--
-- KEYS  1 list  2 ids that were pushed
-- ARGV  1 event id  2 event  3 elements that the list keeps, or ""  4 ms an id is kept
-- Returns 1 pushed, 0 it was
--
-- Rights: ZADD 2  ZREMRANGEBYSCORE 2  ZREMRANGEBYRANK 2  PEXPIRE 2  LTRIM 1
redis.call('LLEN', KEYS[1])
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('RPUSH', KEYS[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('LTRIM', KEYS[1], -ARGV[3], -1) end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[5] - 1)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1

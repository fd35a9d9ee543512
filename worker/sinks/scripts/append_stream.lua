#!lua
-- Adds an event to a stream, unless it was added already.
--
-- KEYS  1 stream  2 ids that were added
-- ARGV  1 event id  2 event  3 entries that the stream keeps, about, or ""  4 ms an id is kept
-- Returns 1 added, 0 it was there
--
-- Rights: ZADD 2  ZREMRANGEBYSCORE 2  ZREMRANGEBYRANK 2  PEXPIRE 2
redis.call('XLEN', KEYS[1])
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '' then
  redis.call('XADD', KEYS[1], '*', 'event', ARGV[2])
else
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[5] - 1)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1

#!lua flags=allow-oom
-- Takes one of the permits for concurrent requests; those of dead workers expire.
--
-- KEYS  1 permits
-- ARGV  1 permit  2 the most at the same time  3 ms after which a permit counts as lost
-- Returns 1 taken, 0 none is free
--
-- Rights: ZCARD 1  ZSCORE 1  ZRANGEBYSCORE 1  ZADD 1  PEXPIRE 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = now + tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  -- It was taken before, and the reply got lost.
  if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end
  -- What was taken before the server's clock went back is held no longer than what is taken now.
  for _, permit in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], expires + 1, '+inf')) do
    redis.call('ZADD', KEYS[1], expires, permit)
  end
  return 0
end
redis.call('ZADD', KEYS[1], expires, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1

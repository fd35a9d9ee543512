#!lua
-- Ends the wait of an event: it was delivered, or could not be.
--
-- KEYS  1 the sink's follower  2 waiting  3 retries  4 unsent
-- ARGV  1 token  2 entry id  3 command id  4 why it could not be sent, or "" if it was
--       5 most events that are kept of those
-- Returns 1 done, 0 fenced: another process leads the sink
--
-- Rights: HDEL 2  HDEL 3
redis.call('HLEN', KEYS[2]); redis.call('HLEN', KEYS[3]); redis.call('XLEN', KEYS[4])
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local event = redis.call('HGET', KEYS[2], ARGV[2])
-- First what may be refused; a repetition finds no event any more.
if event and ARGV[4] ~= '' then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*', 'event', event, 'entry', ARGV[2],
    'error', ARGV[4])
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[3])
return 1

#!lua
-- Puts an event off, or behind another event of its command that is put off.
--
-- KEYS  1 the sink's follower  2 waiting  3 retries
-- ARGV  1 token  2 entry id  3 event or "", if it waits already  4 command id
--       5 JSON of tries and times, or "" where they stay
-- Returns 1 done, 0 fenced: another process leads the sink
--
-- Rights: HSET 2  HSET 3
redis.call('HLEN', KEYS[2]); redis.call('HLEN', KEYS[3])
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[3], ARGV[4], ARGV[5]) end
return 1

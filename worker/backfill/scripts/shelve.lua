#!lua
-- Forgets results that a part holds now.
--
-- KEYS  1 backfill  2 backfill-results
-- ARGV  1 leader's token  2 the cut  3 stream id behind the last one  4 how many
-- Returns 1 done, 0 fenced, or done before
redis.call('XLEN', KEYS[2])
local is = redis.call('HMGET', KEYS[1], 'leader', 'cut')
if is[1] ~= ARGV[1] or is[2] ~= ARGV[2] then return 0 end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
redis.call('HDEL', KEYS[1], 'cut')
redis.call('HINCRBY', KEYS[1], 'part', 1)
redis.call('HINCRBY', KEYS[1], 'collected', ARGV[4])
return 1

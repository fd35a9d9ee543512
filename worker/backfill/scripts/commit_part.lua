#!lua
-- Forgets results that a part holds now.
--
-- KEYS  1 backfill  2 group-results
-- ARGV  1 leader's token  2 the cut  3 stream id behind the last one  4 how many
-- Returns 1 done, 0 fenced, or done before
--
-- What may be refused comes first, what forgets comes last.
-- Rights: HDEL 1  XTRIM 2
redis.call('XLEN', KEYS[2])
local is = redis.call('HMGET', KEYS[1], 'leader', 'cut')
if is[1] ~= ARGV[1] or is[2] ~= ARGV[2] then return 0 end
redis.call('HINCRBY', KEYS[1], 'part', 1)
local collected = redis.pcall('HINCRBY', KEYS[1], 'collected', ARGV[4])
if type(collected) == 'table' then
  redis.call('HINCRBY', KEYS[1], 'part', -1)
  return collected
end
redis.call('HDEL', KEYS[1], 'cut')
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
return 1

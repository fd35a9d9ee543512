#!lua
-- Records which results the next part holds, before it is written.
--
-- KEYS  1 backfill
-- ARGV  1 leader's token  2 first stream id  3 last stream id  4 how many
-- Returns 1 done, 0 fenced, or another part is being written
local is = redis.call('HMGET', KEYS[1], 'leader', 'cut')
if is[1] ~= ARGV[1] or is[2] then return 0 end
redis.call('HSET', KEYS[1], 'cut', ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return 1

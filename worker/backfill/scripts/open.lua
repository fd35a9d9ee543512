#!lua
-- Begins a backfill, or finds it as it stands.
--
-- KEYS  1 backfill  2 backfills  3 events  4 row of its command  5 group
-- ARGV  1 id  2 plan  3 origin  4 entry  5 accepted event or ""
--       6 token of who runs its command, or "" where there is none
--       7 folder of the console that its pictures are to be drawn into, or ""
-- Returns {1, plan} begun, {0, plan} it was there, with that plan, {-1, ""} another holds the
--         command or it has ended, so that nobody would lead it, {-2, ""} the id of this command
--         stands for a backfill that another one began
--
-- Rights: HGET 4  DEL 1 5  HSET 1  HSET 5  ZADD 2
redis.call('ZCARD', KEYS[2]); redis.call('XLEN', KEYS[3])
if ARGV[6] ~= '' and redis.pcall('HGET', KEYS[4], 'n') ~= ARGV[6] then return {-1, ''} end
local is = {redis.call('HGET', KEYS[1], 'plan'), redis.call('HGET', KEYS[5], 'entry')}
local known = is[1] and is[2]
if known and ARGV[6] ~= '' and is[2] ~= ARGV[4] then return {-2, ''} end
if known then
  if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'render', ARGV[7]) end
  return {0, is[1]}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- First what may be refused: a backfill that was begun is not told of again.
if ARGV[5] ~= '' then redis.call('XADD', KEYS[3], '*', 'event', ARGV[5]) end
-- Of one hash without the other nothing can be made any more: someone deleted it, or Redis evicts.
redis.call('DEL', KEYS[1], KEYS[5])
redis.call('HSET', KEYS[5], 'state', 'running', 'entry', ARGV[4], 'succeeded', 0, 'failed', 0)
redis.call('HSET', KEYS[1], 'plan', ARGV[2], 'origin', ARGV[3], 'begun', now, 'leader', 0,
  'leader_until', 0, 'read', 0, 'part', 0, 'collected', 0)
local limits = cjson.decode(ARGV[2])['limits']
for field, limit in pairs({most_failures = limits['most'], largest_share = limits['largest_share']}) do
  if limit ~= cjson.null then redis.call('HSET', KEYS[5], field, tostring(limit)) end
end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'render', ARGV[7]) end
redis.call('ZADD', KEYS[2], now, ARGV[1])
return {1, ARGV[2]}

#!lua
-- Rejects stream entries: one event and one dead letter each, then the acknowledgement.
--
-- KEYS  1 commands  2 events  3 dead-letters
-- ARGV  1 group  2 days kept by reply streams, in seconds
--       then for each entry 4 values: entry id, event, dead letter, reply stream or ""
-- Returns how many were rejected now; an entry that is pending no more was rejected before.
local group, reply_seconds = ARGV[1], tonumber(ARGV[2])
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2]); redis.call('XLEN', KEYS[3])
local rejected = 0
for i = 3, #ARGV, 4 do
  if redis.call('XACK', KEYS[1], group, ARGV[i]) == 1 then
    redis.call('XADD', KEYS[2], '*', 'event', ARGV[i + 1])
    if ARGV[i + 3] ~= '' then
      redis.call('XADD', ARGV[i + 3], '*', 'event', ARGV[i + 1])
      redis.call('EXPIRE', ARGV[i + 3], reply_seconds)
    end
    redis.call('XADD', KEYS[3], '*', 'dead_letter', ARGV[i + 2])
    redis.call('XDEL', KEYS[1], ARGV[i])
    rejected = rejected + 1
  end
end
return rejected

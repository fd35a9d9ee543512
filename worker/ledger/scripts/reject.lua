#!lua
-- Rejects stream entries: one event and one dead letter each, then the acknowledgement.
--
-- KEYS  1 commands  2 events  3 dead-letters
-- ARGV  1 group  2 seconds reply streams are kept
--       then for each entry 4 values: entry id, event, dead letter, reply stream or ""
-- Returns how many were rejected now; an entry that is pending no more was rejected before.
local group, reply_seconds = ARGV[1], tonumber(ARGV[2])
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2]); redis.call('XLEN', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A reply stream whose key holds something else gets nothing: the events stream has it all.
local function publish(event, reply)
  redis.call('XADD', KEYS[2], '*', 'event', event)
  if reply == '' then return end
  local kind = redis.call('TYPE', reply)['ok']
  if kind ~= 'stream' and kind ~= 'none' then return end
  redis.call('XADD', reply, 'MINID', '~', now - reply_seconds * 1000, '*', 'event', event)
  redis.call('EXPIRE', reply, reply_seconds)
end
local rejected = 0
for i = 3, #ARGV, 4 do
  if redis.call('XACK', KEYS[1], group, ARGV[i]) == 1 then
    publish(ARGV[i + 1], ARGV[i + 3])
    redis.call('XADD', KEYS[3], '*', 'dead_letter', ARGV[i + 2])
    redis.call('XDEL', KEYS[1], ARGV[i])
    rejected = rejected + 1
  end
end
return rejected

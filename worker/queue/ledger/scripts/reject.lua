#!lua
-- Rejects stream entries: one event and one dead letter each, then the acknowledgement.
--
-- KEYS  1 the stream of the entries  2 events  3 dead-letters
-- ARGV  1 key prefix  2 seconds reply streams are kept  3 group
--       then for each entry 4 values: entry id, event, dead letter, reply stream or ""
-- Returns how many were rejected now; an entry that is pending no more was rejected before.
--
-- Rights: XACK 1  XDEL 1  XDEL 3  TYPE replies:  XADD replies:  EXPIRE replies:
local group, reply_seconds = ARGV[3], tonumber(ARGV[2])
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2]); redis.call('XLEN', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Include: answer
-- What may be refused comes before the acknowledgement, for a script is not rolled back.
local rejected = 0
for i = 4, #ARGV, 4 do
  if #redis.call('XPENDING', KEYS[1], group, ARGV[i], ARGV[i], 1) == 1 then
    local letter = redis.call('XADD', KEYS[3], '*', 'dead_letter', ARGV[i + 2])
    local told = redis.pcall('XADD', KEYS[2], '*', 'event', ARGV[i + 1])
    if type(told) == 'table' then
      redis.call('XDEL', KEYS[3], letter)
      return told
    end
    answer(ARGV[i + 3], ARGV[i + 1], now, reply_seconds)
    redis.call('XACK', KEYS[1], group, ARGV[i])
    redis.call('XDEL', KEYS[1], ARGV[i])
    rejected = rejected + 1
  end
end
return rejected

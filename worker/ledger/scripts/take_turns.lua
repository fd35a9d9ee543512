#!lua flags=allow-oom
-- Hands out turns to send requests, evenly spaced over all workers.
--
-- KEYS  1 turns
-- ARGV  1 turns wanted  2 microseconds between turns
-- Returns for each turn in how many microseconds it comes.
--
-- Evenly spaced turns are never more than the rate in any second, wherever it begins; a counter
-- by the second would let twice as many through around its edge.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local gap = tonumber(ARGV[2])
local next_turn = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
local waits = {}
for i = 1, tonumber(ARGV[1]) do
  waits[i] = next_turn - now
  next_turn = next_turn + gap
end
redis.call('SET', KEYS[1], string.format('%.0f', next_turn), 'PX',
  math.ceil((next_turn - now) / 1000) + 1000)
return waits

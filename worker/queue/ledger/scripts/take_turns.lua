#!lua flags=allow-oom
-- Hands out turns to send requests, evenly spaced over all workers.
--
-- KEYS  1 turns
-- ARGV  1 turns wanted  2 microseconds between turns  3 microseconds that turns are given ahead
-- Returns for each turn in how many microseconds it comes; none if all turns so far ahead are taken.
--
-- Evenly spaced turns are never more than the rate in any second, wherever it begins; a counter
-- by the second would let twice as many through around its edge.
--
-- No turn is ever given further ahead than ARGV[3]. So a next turn that lies beyond was written
-- before the server's clock went back: it counts as the furthest that there can be.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local gap, ahead = tonumber(ARGV[2]), tonumber(ARGV[3])
-- What holds something else tells no turn, like a text that is no number, and is written over.
local known = redis.pcall('GET', KEYS[1])
if type(known) == 'table' and not string.find(known['err'], '^WRONGTYPE') then return known end
local next_turn = math.max(now, type(known) == 'string' and tonumber(known) or 0)
next_turn = math.min(next_turn, now + ahead + gap)
local waits = {}
for i = 1, tonumber(ARGV[1]) do
  if next_turn > now + ahead then break end
  waits[i] = next_turn - now
  next_turn = next_turn + gap
end
redis.call('SET', KEYS[1], string.format('%.0f', next_turn), 'PX',
  math.ceil((next_turn - now) / 1000) + 1000)
return waits

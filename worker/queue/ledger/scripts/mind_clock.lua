#!lua
-- Tells the time, and whether the server's clock has gone back since somebody asked.
--
-- KEYS  1 clock
-- ARGV  1 ms by which it may go back unnoticed  2 ms between two records of the time
--       3 ms by which the due sets have been moved back now, or 0
-- Returns {now in ms, ms by which times that were stored before lie too far ahead, or 0}
--
-- The value is `<the latest time seen> <ms to move back>`. The second number stays until a worker
-- has moved everything, so that one that dies over it leaves the rest to the next.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- What holds something else tells no time, like any other text, and is written over.
local known = redis.pcall('GET', KEYS[1])
if type(known) == 'table' and not string.find(known['err'], '^WRONGTYPE') then return known end
if type(known) ~= 'string' then known = '0 0' end
local seen, back = string.match(known, '^(%d+) (%d+)$')
seen, back = tonumber(seen or 0), tonumber(back or 0)
local changed = now - seen >= tonumber(ARGV[2])
if back > 0 and back == tonumber(ARGV[3]) then back, changed = 0, true end
if now + tonumber(ARGV[1]) < seen then
  back, seen, changed = back + seen - now, now, true
end
if changed then
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', math.max(seen, now), back))
end
return {now, back}

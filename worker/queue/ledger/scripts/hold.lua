#!lua flags=allow-oom
-- Keeps everybody from claiming for a while, or longer where that was said before.
--
-- KEYS  1 hold
-- ARGV  1 ms  2 reason
-- Returns the ms for which nobody may claim now. The value is `<ms> <since, in ms> <reason>`: by the
-- first number a hold is known that has grown because the server's clock went back.
local rest, wanted = redis.call('PTTL', KEYS[1]), tonumber(ARGV[1])
if rest >= wanted then return rest end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], string.format('%.0f %.0f ', wanted, now) .. ARGV[2], 'PX', wanted)
return wanted

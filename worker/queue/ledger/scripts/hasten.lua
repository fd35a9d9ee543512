#!lua
-- Makes commands due now that an error of one kind had told to come back later.
--
-- KEYS  1 a due set
-- ARGV  1 key prefix  2 code of the error, then ids
-- Returns how many were moved. What runs or is in doubt stays as it is.
--
-- Rights: HMGET command:
local prefix, code = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = 0
local function waits_for_it(is)
  if is['err'] then return false end
  return (is[1] == 'polling' or is[1] == 'retrying') and is[2] == code
end
for i = 3, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local is = redis.pcall('HMGET', prefix .. 'command:' .. ARGV[i], 's', 'w')
  if score and tonumber(score) > now and waits_for_it(is) then
    redis.call('ZADD', KEYS[1], now, ARGV[i])
    moved = moved + 1
  end
end
return moved

#!lua
-- Makes commands due now that an error of one kind had told to come back later.
--
-- KEYS  1 a due set
-- ARGV  1 key prefix  2 code of the error, then ids
-- Returns how many were moved. What runs, waits for a training or is in doubt stays as it is.
--
-- Rights: HMGET row:
local prefix, code = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = 0
local function waits_for_it(is)
  if is['err'] or is[1] ~= 'retrying' or not is[2] then return false end
  -- Whatever stands there, one odd row must not keep the others waiting.
  local is_list, last = pcall(function()
    local errors = cjson.decode(is[2])
    return errors[#errors]['code']
  end)
  return is_list and last == code
end
for i = 3, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local is = redis.pcall('HMGET', prefix .. 'row:' .. ARGV[i], 's', 'x')
  if score and tonumber(score) > now and waits_for_it(is) then
    redis.call('ZADD', KEYS[1], now, ARGV[i])
    moved = moved + 1
  end
end
return moved

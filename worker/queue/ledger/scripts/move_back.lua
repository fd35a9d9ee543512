#!lua
-- Moves due times back that were stored before the server's clock went back.
--
-- KEYS  1 a due set
-- ARGV  1 key prefix  2 ms by which they lie too far ahead  3 lease in ms
--       4 score to begin with  5 rows of that score to pass over  6 most rows
-- Returns {score to go on with or "" at the end, rows of that score to pass over, rows moved}
--
-- What runs stays safe for a lease from now on, for it may have been claimed a moment ago. A command
-- that was accepted and never claimed waits for its `notbefore`, which counts by the true time.
--
-- Rights: HMGET command:
local prefix, back, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local from = math.max(now + 1, tonumber(ARGV[4]))
local skip = from == tonumber(ARGV[4]) and tonumber(ARGV[5]) or 0
local page = redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf', 'WITHSCORES',
  'LIMIT', skip, ARGV[6])
local moved, last, stayed = 0, from, skip
for i = 1, #page, 2 do
  local id, score = page[i], tonumber(page[i + 1])
  local is = redis.pcall('HMGET', prefix .. 'command:' .. id, 's', 'n', 'm')
  local target = math.max(now, score - back)
  if is['err'] or not is[1] then
    target = score
  elseif is[1] == 'running' then
    target = math.min(score, now + lease)
  elseif is[1] == 'accepted' and is[2] == '0' and score > (tonumber(is[3]) or 0) then
    target = score
  end
  if score ~= last then last, stayed = score, 0 end
  if target < score then
    redis.call('ZADD', KEYS[1], target, id)
    moved = moved + 1
  else
    stayed = stayed + 1
  end
end
if #page < 2 * tonumber(ARGV[6]) then return {'', 0, moved} end
return {string.format('%.0f', last), stayed, moved}

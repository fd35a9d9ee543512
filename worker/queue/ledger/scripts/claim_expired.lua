#!lua
-- Takes the lease of rows whose deadline passes while they wait, so that they can be ended. No
-- hold, no pause and no lack of slots keeps it from that, for nothing is started.
--
-- KEYS  1 deadlines  2 due:interactive  3 due:bulk  4 due:suspect
-- ARGV  1 key prefix  2 lease in ms  3 most rows  4 ms after which a row that is passed over is
--       looked at again  5 most bytes of texts: at these no more rows follow
-- Returns {ms until the next deadline or -1 for none, rows as `claim` returns them}
--
-- Passed over is who runs, for a run minds its deadline itself; who may have changed something
-- and does not know, for asking the API comes first; a member that was set aside; and a row that
-- only a newer version can read.
--
-- Rights: HMGET command:  GET text:  HSET command:  ZREM 1  ZADD 1
-- Include: newer
local prefix, lease, again = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
for i = 2, 4 do redis.call('ZCARD', KEYS[i]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed, bytes = {}, 0
-- One row whose number is none must not end the script, and with it the claims of all others.
local function counts(value) return value and string.find(value, '^%d+$') end
local function may_end(is, due_at)
  if not due_at then return false end
  if is[1] == 'accepted' or is[1] == 'retrying' then return true end
  if is[1] == 'running' then
    if is[12] and is[12] ~= 'idle' then return false end
  elseif is[1] ~= 'polling' then
    return false
  end
  return tonumber(due_at) <= now
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
  if bytes >= tonumber(ARGV[5]) then break end
  local row = prefix .. 'command:' .. id
  local is = redis.pcall('HMGET', row, 's', 'n', 'a', 'c', 'm', 'q', 'p', 'x', 'l', 'b', 'e',
    'h', 'u')
  local text = redis.pcall('GET', prefix .. 'text:' .. id)
  local due = is[9] == 'b' and KEYS[3] or KEYS[2]
  local due_at = redis.call('ZSCORE', due, id) or redis.call('ZSCORE', KEYS[4], id)
  local is_whole = is[1] and counts(is[2]) and counts(is[3]) and counts(is[4])
    and counts(is[5]) and is[6] and is[9]
  if is_newer(is[13]) then
    redis.call('ZADD', KEYS[1], now + again, id)
  elseif is['err'] or not is_whole or is[11] or type(text) ~= 'string' then
    redis.call('ZREM', KEYS[1], id)
  elseif may_end(is, due_at) then
    local token = is[2] + 1
    redis.call('HSET', row, 'n', token)
    redis.call('ZREM', KEYS[4], id)
    redis.call('ZADD', due, now + lease, id)
    redis.call('ZADD', KEYS[1], now + lease, id)
    claimed[#claimed + 1] = {id, token, is[9], is[1], is[3], is[4], is[5], is[6],
      is[7] or '', is[8] or '', text, is[10] or '', is[12] or ''}
    bytes = bytes + #text
  else
    redis.call('ZADD', KEYS[1], now + again, id)
  end
end
local following = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if not following[1] then return {-1, claimed} end
return {math.max(0, math.ceil(tonumber(following[2]) - now)), claimed}

#!lua
-- Takes, keeps or gives up the lead of a follower of the events, and records its position.
--
-- KEYS  1 the follower  2 followers  3 events
-- ARGV  1 token, 0 to take the lead  2 ms for which it is kept, 0 to give it up  3 name
--       4 who asks  5 position to record or ""  6 its number  7, 8 positions of which one stands
--       there now, if 5 is told  9 missed events to add
-- Returns {token, 0 if another leads, -1 if another position stands there; position; its number;
--         ms until the other's lease ends; last entry of the events; how many were added ever}
--
-- A position is the id of the last entry that is done with all before it. Its number counts the
-- entries that were added up to it. One that is ahead of the stream is put back: the stream has
-- lost its end in a failover, or is another one.
--
-- Rights: HSET 1  HSET 2
redis.call('HLEN', KEYS[2])
local is = redis.call('HMGET', KEYS[1], 'token', 'until', 'lease', 'position', 'number', 'missed')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last, added = '0-0', 0
if redis.call('EXISTS', KEYS[3]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[3])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
end
local wanted, missed = tonumber(ARGV[1]), tonumber(is[6] or '0') or 0
local known, lease = tonumber(is[1] or '0') or 0, tonumber(is[3] or '0') or 0
-- What was stored before the server's clock went back holds no longer than its own time.
local rest = math.min((tonumber(is[2] or '0') or 0) - now, lease)
local token = 0
if wanted == 0 and rest <= 0 then
  token = known + 1
elseif wanted > 0 and wanted == known then
  token = wanted
end
if token == 0 then return {0, '', 0, math.max(rest, 0), last, added} end
-- A name that is new begins with what comes from now on.
local position, number = is[4] or last, tonumber(is[5] or added) or -1
if ARGV[5] ~= '' then
  if is[4] ~= ARGV[7] and is[4] ~= ARGV[8] then return {-1, is[4] or '', 0, 0, last, added} end
  position, number = ARGV[5], tonumber(ARGV[6])
end
local ms = string.match(position, '^(%d+)-%d+$') or '0'
redis.call('HSET', KEYS[1], 'token', token, 'until', now + tonumber(ARGV[2]), 'lease', ARGV[2],
  'leader', ARGV[4], 'position', position, 'number', number, 'seen', now,
  'missed', missed + tonumber(ARGV[9]))
if ARGV[9] ~= '0' then redis.call('HSET', KEYS[1], 'missed_at', now) end
redis.call('HSET', KEYS[2], ARGV[3], ms .. ' ' .. now)
return {token, position, number, 0, last, added}

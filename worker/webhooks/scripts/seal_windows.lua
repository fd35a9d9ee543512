#!lua
-- Seals windows that are due: what comes from now on opens others. Whoever sealed a window has so
-- long to close it; then others may, for nothing of it is gone before it is closed.
--
-- KEYS  1 windows
-- ARGV  1 key prefix  2 most windows  3 ms that they are left to the caller
-- Returns {ms until the next one is due, or "" where there is none, 1 if windows may be missing
--         here or 0, ids of sealed windows, …}
--
-- The member '' never is due: it says that every window stood here once and that the set was not
-- deleted since.
-- Rights: HGET window-open:  DEL window-open:  TYPE window:  ZREM 1  ZADD 1  ZRANGE 1  ZSCORE 1
local prefix, lease = ARGV[1], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {'', redis.call('ZSCORE', KEYS[1], '') and 0 or 1}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local open = prefix .. 'window-open:' .. string.sub(id, 1, -34)
  local kind = redis.call('TYPE', prefix .. 'window:' .. id)['ok']
  if kind == 'none' then
    redis.call('ZREM', KEYS[1], id)
  elseif kind ~= 'list' then
    -- Others wrote it; it is put aside, or it would keep the rest waiting.
    redis.call('ZADD', KEYS[1], now + lease, id)
  else
    -- The window may have been sealed before, and another one be open since.
    if redis.pcall('HGET', open, 'id') == id then redis.call('DEL', open) end
    redis.call('ZADD', KEYS[1], now + lease, id)
    found[#found + 1] = id
  end
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if next[2] and next[1] ~= '' then found[1] = tostring(math.max(0, math.floor(tonumber(next[2]) - now))) end
return found

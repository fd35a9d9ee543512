#!lua
-- Ends a row as cancelled unless it has ended; whoever runs it is fenced from now on.
--
-- KEYS  1 events  2 due:interactive  3 due:bulk  4 due:suspect  5 deadlines
-- ARGV  1 key prefix  2 id  3 event  4 reply stream or ""  5 seconds an ended row is kept
--       6 seconds reply streams are kept  7, 8 token and progress that the event was written for
-- Returns {1, state before} cancelled, {0, state} ended before, {2, ""} unknown,
--         {3, state} it moved on meanwhile: read it again,
--         {5, state} it is a group: whoever leads it writes what its items came to, then ends it
--
-- Rights: HSET command:  HDEL command:  EXPIRE command:  DEL text:  ZREM 2
-- Rights: TYPE replies:  XADD replies:  EXPIRE replies:
-- Include: answer
local prefix, id = ARGV[1], ARGV[2]
local row = prefix .. 'command:' .. id
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2]); redis.call('ZCARD', KEYS[3]); redis.call('ZCARD', KEYS[4])
redis.call('ZCARD', KEYS[5])
local is = redis.call('HMGET', row, 's', 'n', 'l', 'e', 'p', 'q')
if not is[1] then return {2, ''} end
if is[4] then return {0, is[1]} end
local hash = prefix .. 'group:' .. id
if redis.call('TYPE', hash)['ok'] == 'hash' then
  local of = redis.call('HMGET', hash, 'state', 'entry')
  local state = of[2] == is[6] and of[1]
  if state == 'succeeded' or state == 'failed' then return {0, state} end
  if state == 'running' or state == 'paused' or state == 'cancelling' then
    redis.call('HSET', hash, 'state', 'cancelling', 'reason', '')
    return {5, is[1]}
  end
end
if is[2] ~= ARGV[7] or (is[5] or '') ~= ARGV[8] then return {3, is[1]} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token = is[2] + 1
local event_id = redis.call('XADD', KEYS[1], '*', 'event', ARGV[3])
answer(ARGV[4], ARGV[3], now, ARGV[6])
redis.call('HSET', row, 's', 'cancelled', 'n', token, 'e', now, 'v', event_id)
redis.call('HDEL', row, 'p', 'x', 'c', 'h', 'k', 'w', 'z')
redis.call('EXPIRE', row, ARGV[5])
redis.call('DEL', prefix .. 'text:' .. id)
redis.call('ZREM', is[3] == 'b' and KEYS[3] or KEYS[2], id)
redis.call('ZREM', KEYS[4], id); redis.call('ZREM', KEYS[5], id)
return {1, is[1]}

#!lua
-- Takes a backfill from one state into another, once.
--
-- KEYS  1 group  2 group-open  3 group-results  4 events  5 due:bulk  6 due:suspect  7 backfill
-- ARGV  1 key prefix  2 states that it may be in, with blanks around  3 the new state
--       4 reason or ""  5 leader's token, or "" for whoever  6 event or ""  7 result or ""
--       8 seconds that an ended backfill is kept
-- Returns {1, state before} done, {0, state} it is in no such state, or led by another;
--         {-1, ""} there is no such backfill
--
-- Rights: HSET 1  HSET 7  SMEMBERS 2  ZSCORE 5  ZADD 5  HGET command:  ZREM 5  DEL command: text: 3  SREM 2
-- Rights: HINCRBY 1  EXPIRE 1  EXPIRE 7
redis.call('SCARD', KEYS[2]); redis.call('XLEN', KEYS[3]); redis.call('XLEN', KEYS[4])
redis.call('ZCARD', KEYS[5]); redis.call('ZCARD', KEYS[6])
local is = redis.call('HMGET', KEYS[1], 'state', 'failed', 'succeeded')
local leader = redis.call('HGET', KEYS[7], 'leader')
if not is[1] or not leader then return {-1, ''} end
if not string.find(ARGV[2], ' ' .. is[1] .. ' ', 1, true) then return {0, is[1]} end
if ARGV[5] ~= '' and leader ~= ARGV[5] then return {0, is[1]} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = ARGV[3]
-- First what may be refused: a state without its event would never be told. A count that is no
-- number refuses it here.
local failed, succeeded = tonumber(is[2] or ''), tonumber(is[3] or '')
if state == 'running' and not (failed and succeeded) then
  return redis.error_reply('ERR failed and succeeded of the backfill are no numbers')
end
if state == 'cancelling' then redis.call('HINCRBY', KEYS[1], 'dropped', 0) end
if ARGV[6] ~= '' then redis.call('XADD', KEYS[4], '*', 'event', ARGV[6]) end
redis.call('HSET', KEYS[1], 'state', state, 'reason', ARGV[4])
if state == 'running' then
  -- What was set aside is due again; what failed until now pauses it no second time.
  redis.call('HSET', KEYS[1], 'acknowledged', failed, 'acknowledged_of', failed + succeeded)
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if not redis.call('ZSCORE', KEYS[5], id) and not redis.call('ZSCORE', KEYS[6], id) then
      redis.call('ZADD', KEYS[5], now, id)
    end
  end
elseif state == 'cancelling' then
  -- What waits never runs; what runs may end.
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local row = ARGV[1] .. 'command:' .. id
    if redis.pcall('HGET', row, 's') ~= 'running' then
      redis.call('ZREM', KEYS[5], id); redis.call('ZREM', KEYS[6], id)
      redis.call('DEL', row, ARGV[1] .. 'text:' .. id)
      redis.call('SREM', KEYS[2], id)
      redis.call('HINCRBY', KEYS[1], 'dropped', 1)
    end
  end
elseif state ~= 'paused' then
  redis.call('HSET', KEYS[7], 'ended', now, 'result', ARGV[7])
  if redis.call('XLEN', KEYS[3]) == 0 then redis.call('DEL', KEYS[3]) end
  for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[8]) end
  redis.call('EXPIRE', KEYS[7], ARGV[8])
end
return {1, is[1]}

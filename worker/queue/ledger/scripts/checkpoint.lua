#!lua
-- Records how far a run has come, before or after it changes something at the API.
--
-- KEYS  1 events  2 due:interactive  3 due:bulk
-- ARGV  1 key prefix  2 row id  3 token  4 lane  5 lease in ms  6 state or ""  7 progress
--       8 event or ""  9 reply stream or ""  10 seconds reply streams are kept
--       11 lock to take or ""  12 lock to drop or ""  13 seconds a lock is kept
--       14 ms after which the lock of a command that has ended is free, or "" for never
--       15 phase  16 what goes on though the command is cancelled, or ""
--       17 a key while which exists nothing is recorded, or ""
-- Returns {1, ""} recorded, {0, ""} fenced, {2, holder} where another command has the lock, or the
--         command's own id where that key exists
--
-- A checkpoint that is there already was repeated because its reply was lost: it publishes nothing.
-- All that can fail for a key of the wrong type is read before the first write.
--
-- Rights: HMGET command:  HSET command:  HDEL command:  GET lock:  SET lock:  DEL lock:  ZADD 2
-- Rights: TYPE replies:  XADD replies:  EXPIRE replies:
-- Include: answer
local prefix, id, progress = ARGV[1], ARGV[2], ARGV[7]
local take, drop = ARGV[11], ARGV[12]
local row = prefix .. 'command:' .. id
redis.call('XLEN', KEYS[1]); redis.call('ZCARD', KEYS[2]); redis.call('ZCARD', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is = redis.pcall('HMGET', row, 'n', 'p', 'h')
if is['err'] or is[1] ~= ARGV[3] then return {0, ''} end
local repeated = is[2] == progress and is[3] == ARGV[15]
-- What an ended command was about to do it does no more, once its call can't be under way.
local function is_free(holder)
  if ARGV[14] == '' then return false end
  local found = redis.pcall('HMGET', prefix .. 'command:' .. holder, 's', 'e')
  if found['err'] or not found[1] then return true end
  if not found[2] then return false end
  local ended_at = tonumber(found[2]) or 0
  if ended_at > now then
    -- The server's clock went back since it ended: from now on it keeps the lock once as long.
    redis.call('HSET', prefix .. 'command:' .. holder, 'e', now)
    return false
  end
  return now - ended_at >= tonumber(ARGV[14])
end
if ARGV[17] ~= '' and redis.call('EXISTS', ARGV[17]) == 1 then return {2, id} end
if take ~= '' then
  local holder = redis.call('GET', take)
  if holder and holder ~= id and not is_free(holder) then return {2, holder} end
end
-- First what may be refused: a checkpoint without its event would pass for one that was repeated.
local tells = ARGV[8] ~= '' and not repeated
if tells then redis.call('XADD', KEYS[1], '*', 'event', ARGV[8]) end
if take ~= '' then redis.call('SET', take, id, 'EX', ARGV[13]) end
if drop ~= '' and redis.pcall('GET', drop) == id then redis.call('DEL', drop) end
redis.call('HSET', row, 'p', progress, 'h', ARGV[15])
if ARGV[16] ~= '' then redis.call('HSET', row, 'z', ARGV[16]) end
if ARGV[6] ~= '' then
  redis.call('HSET', row, 's', ARGV[6])
  -- It waits for the end of no error any more.
  redis.call('HDEL', row, 'w')
end
redis.call('ZADD', ARGV[4] == 'b' and KEYS[3] or KEYS[2], now + tonumber(ARGV[5]), id)
if tells then answer(ARGV[9], ARGV[8], now, ARGV[10]) end
return {1, ''}

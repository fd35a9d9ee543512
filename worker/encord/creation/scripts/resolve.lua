#!lua
-- Settles the doubt of a command by the word of a person; whoever runs it is fenced from now on.
--
-- KEYS  1 events  2 due:interactive  3 due:bulk  4 due:suspect
-- ARGV  1 key prefix  2 id  3 event  4 reply stream or ""  5 seconds reply streams are kept
--       6, 7 token and progress that the event was written for  8 progress from now on
--       9 what status tells of it  10 phase from now on  11 what goes on if it is cancelled, or ""
-- Returns 1 settled, 0 it moved on meanwhile: read it again
--
-- A run in doubt only asks the API. Fenced, it records nothing of what it found any more.
--
-- Rights: HMGET command:  HSET command:  ZSCORE 4  ZADD 2
-- Rights: TYPE replies:  XADD replies:  EXPIRE replies:
-- Include: answer
local prefix, id = ARGV[1], ARGV[2]
local row = prefix .. 'command:' .. id
redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[2]); redis.call('ZCARD', KEYS[3])
local is = redis.call('HMGET', row, 'n', 'p', 'e', 'l')
if is[3] or is[1] ~= ARGV[6] or is[2] ~= ARGV[7] then return 0 end
-- Before anything is written: where the token is no number, the script ends here.
local token = is[1] + 1
local suspect = redis.call('ZSCORE', KEYS[4], id)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('XADD', KEYS[1], '*', 'event', ARGV[3])
redis.call('HSET', row, 'n', token, 'p', ARGV[8], 'r', ARGV[9], 'h', ARGV[10])
if ARGV[11] ~= '' then redis.call('HSET', row, 'z', ARGV[11]) end
redis.call('ZADD', suspect and KEYS[4] or is[4] == 'b' and KEYS[3] or KEYS[2], now, id)
answer(ARGV[4], ARGV[3], now, ARGV[5])
return 1

#!lua
-- Ends runs: settles their rows for good or reschedules them. Only the token's holder may,
-- and once: either uses up the token, so that a repeated call finds itself fenced.
--
-- KEYS  1 events  2 dead-letters  3 due:interactive  4 due:bulk
-- ARGV  1 key prefix  2 seconds an ended row is kept  3 seconds reply streams are kept
--       then for each run 13 values:
--       id, token, lane, state, ended (1 or 0), delay in ms, attempts, claims,
--       progress or "", last errors or "", event or "", reply stream or "", dead letter or ""
--       followed by the guard to drop or "" (14th)
-- Returns for each run: 1 done, 0 fenced
local prefix, keep_seconds, reply_seconds = ARGV[1], ARGV[2], ARGV[3]
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2])
redis.call('ZCARD', KEYS[3]); redis.call('ZCARD', KEYS[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local verdicts = {}
for i = 4, #ARGV, 14 do
  local id, token = ARGV[i], ARGV[i + 1]
  local row = prefix .. 'row:' .. id
  if redis.call('HGET', row, 'n') ~= token then
    verdicts[#verdicts + 1] = 0
  else
    local due = ARGV[i + 2] == 'b' and KEYS[4] or KEYS[3]
    local event, reply, dead_letter = ARGV[i + 10], ARGV[i + 11], ARGV[i + 12]
    local event_id = ''
    if event ~= '' then
      event_id = redis.call('XADD', KEYS[1], '*', 'event', event)
      if reply ~= '' then
        redis.call('XADD', reply, '*', 'event', event)
        redis.call('EXPIRE', reply, reply_seconds)
      end
    end
    if dead_letter ~= '' then
      redis.call('XADD', KEYS[2], '*', 'dead_letter', dead_letter)
    end
    if ARGV[i + 4] == '1' then
      redis.call('HSET', row, 's', ARGV[i + 3], 'n', token + 1, 'a', ARGV[i + 6],
        'e', now, 'v', event_id)
      redis.call('HDEL', row, 'p', 'x', 'c')
      redis.call('EXPIRE', row, keep_seconds)
      redis.call('DEL', prefix .. 'text:' .. id)
      redis.call('ZREM', due, id)
    else
      redis.call('HSET', row, 's', ARGV[i + 3], 'n', token + 1, 'a', ARGV[i + 6],
        'c', ARGV[i + 7])
      if ARGV[i + 8] ~= '' then redis.call('HSET', row, 'p', ARGV[i + 8]) end
      if ARGV[i + 9] ~= '' then redis.call('HSET', row, 'x', ARGV[i + 9]) end
      redis.call('ZADD', due, now + tonumber(ARGV[i + 5]), id)
    end
    if ARGV[i + 13] ~= '' and redis.call('GET', ARGV[i + 13]) == id then
      redis.call('DEL', ARGV[i + 13])
    end
    verdicts[#verdicts + 1] = 1
  end
end
return verdicts

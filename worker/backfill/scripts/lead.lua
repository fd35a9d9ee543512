#!lua
-- Takes, keeps or gives up the lead of a backfill: who has it reads its source and writes its
-- parts. Each new leader gets a higher token, and every act of leading names it.
--
-- KEYS  1 backfill  2 group-open  3 group-results  4 events  5 the command's replies, or
--       events again  6 group
-- ARGV  1 token, 0 to take the lead  2 ms for which it is kept, 0 to give it up
--       3 event that tells progress or ""  4 ms between two of them
--       5 seconds reply streams are kept  6 what that event tells: the same is told once
-- Returns {token, 0 if another leads, -1 if there is no such backfill; its fields; open items;
--         uncollected results; ms until the other leader's lease ends; now in ms; its group's fields}
--
-- Rights: HSET 1  TYPE 5  XADD 5  EXPIRE 5  HGETALL 1  HGETALL 6
-- Include: answer
redis.call('SCARD', KEYS[2]); redis.call('XLEN', KEYS[3]); redis.call('XLEN', KEYS[4])
local is = redis.call('HMGET', KEYS[1], 'leader', 'leader_until', 'progress_at', 'progress_of', 'lease')
local of = redis.call('HMGET', KEYS[6], 'state', 'orphaned')
if not is[1] or not of[1] then return {-1, {}, 0, 0, 0, 0, {}} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, wanted, rest = 0, tonumber(ARGV[1]), tonumber(is[2]) - now
local lease, progress_at = tonumber(is[5] or ARGV[2]), tonumber(is[3] or 0)
-- What was stored before the server's clock went back holds nothing longer than its own time.
local is_cut = (is[5] or lease > 0) and rest > lease
if is_cut then rest = lease end
if progress_at > now then progress_at = 0 end
if wanted == 0 and rest <= 0 then
  token = tonumber(is[1]) + 1
elseif wanted > 0 and wanted == tonumber(is[1]) then
  token = wanted
end
if token > 0 then
  -- No progress is told behind its end, nor behind that of its command: what the leader saw last may
  -- be older than both.
  local goes_on = of[2] ~= '1' and (of[1] == 'running' or of[1] == 'paused' or of[1] == 'cancelling')
  local tells = ARGV[3] ~= '' and goes_on and is[4] ~= ARGV[6] and now - progress_at >= tonumber(ARGV[4])
  -- First what may be refused: a lead that nobody knows of would stand until its lease ends.
  if tells then redis.call('XADD', KEYS[4], '*', 'event', ARGV[3]) end
  redis.call('HSET', KEYS[1], 'leader', token, 'leader_until', now + tonumber(ARGV[2]),
    'lease', ARGV[2])
  if tells then
    redis.call('HSET', KEYS[1], 'progress_at', now, 'progress_of', ARGV[6])
    if KEYS[5] ~= KEYS[4] then answer(KEYS[5], ARGV[3], now, ARGV[5]) end
  end
elseif is_cut then
  redis.call('HSET', KEYS[1], 'leader_until', now + lease)
end
return {token, redis.call('HGETALL', KEYS[1]), redis.call('SCARD', KEYS[2]),
  redis.call('XLEN', KEYS[3]), math.max(rest, 0), now, redis.call('HGETALL', KEYS[6])}

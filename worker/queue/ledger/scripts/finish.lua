#!lua
-- Ends runs: settles their rows for good or reschedules them. Only the token's holder may,
-- and once: either uses up the token, so that a repeated call writes nothing.
--
-- KEYS  1 events  2 dead-letters  3 due:interactive  4 due:bulk  5 deadlines
-- ARGV  1 key prefix  2 seconds an ended row is kept  3 seconds reply streams are kept
--       4 seconds a copy of a text is kept beyond the end
--       then for each run 19 values:
--       row id, token, lane, state, ended (1 or 0), delay in ms, attempts, claims,
--       progress or "", last errors or "", event or "", reply stream or "", dead letter or "",
--       lock to drop or "", group or "", result of a member or "", code of the error or "", phase or "",
--       whether a copy of its text is kept (1 or 0)
-- Returns for each run: 1 done, 2 done by an earlier call whose reply was lost, 0 fenced, or why a
-- key of its group refuses its end. Of that run nothing is written, and the others are ended. Of a
-- member nothing is left that could tell 2 from 0: it is 0.
--
-- Every shared key is read first, so that one of the wrong type stops the script before it has
-- written. A row of the wrong type holds no token, so its run is fenced like any other.
--
-- Rights: HGET command:  GET lock:  XDEL 1  TYPE replies:  XADD replies:  EXPIRE replies:
-- Rights: HSET command:  HDEL command:  EXPIRE command:  HMGET command:  DEL command: text: lock:  ZREM 3  ZADD 3
-- Rights: GET text:  SET sent:
-- Rights: EXISTS group:  TYPE group:  HMGET group:  HSET group:  HINCRBY group:
-- Rights: XADD group-results:  SREM group-open:
local prefix, keep_seconds, reply_seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2])
redis.call('ZCARD', KEYS[3]); redis.call('ZCARD', KEYS[4])
local deadlines = redis.call('ZCARD', KEYS[5]) > 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- As texts, for Redis writes each number of a call as a floating one.
local now_text = string.format('%d', now)
local function next_token(token) return string.format('%d', token + 1) end
-- Include: answer
-- Include: raise
-- A group of which too many members have failed is paused with the last of them: what runs may end,
-- nothing more is claimed.
local function check_failures(hash)
  local is = redis.call('HMGET', hash, 'most_failures', 'largest_share', 'state', 'failed',
    'succeeded', 'acknowledged', 'acknowledged_of')
  -- A limit that is no number was written by someone else: it is none.
  local most, share = tonumber(is[1] or ''), tonumber(is[2] or '')
  if not most and not share or is[3] ~= 'running' then return end
  local function count(i) return tonumber(is[i] or '') or 0 end
  local failed = count(4) - count(6)
  local ended = count(4) + count(5) - count(7)
  local reason
  if most and failed >= most then
    reason = string.format('%d item%s failed; the limit is %d', failed, failed == 1 and '' or 's', most)
  elseif share and ended >= 100 and failed > share * ended then
    reason = string.format('%d of %d items failed; the limit is %.1f%%', failed, ended, share * 100)
  end
  if reason then redis.call('HSET', hash, 'state', 'paused', 'reason', reason) end
end
-- A member's row is gone with its end. What it came to is counted, and kept until it is fetched.
local function end_member(id, row, group, state, result, code)
  local hash = prefix .. 'group:' .. group
  local known = redis.call('EXISTS', hash) == 1
  if known then
    -- First what may be refused, for what is deleted is not brought back: a count that is no
    -- number, then a stream that takes no more.
    local counted = redis.pcall('HINCRBY', hash, state, 1)
    if type(counted) == 'table' then return counted end
    if code ~= '' then counted = redis.pcall('HINCRBY', hash, 'failed:' .. code, 1) end
    local kept = type(counted) == 'table' and counted
      or redis.pcall('XADD', prefix .. 'group-results:' .. group, '*', 'result', result)
    if type(kept) == 'table' then
      redis.call('HINCRBY', hash, state, -1)
      if code ~= '' and type(counted) ~= 'table' then
        redis.call('HINCRBY', hash, 'failed:' .. code, -1)
      end
      return kept
    end
  end
  redis.call('DEL', row)
  redis.pcall('SREM', prefix .. 'group-open:' .. group, id)
  if known and state == 'failed' then check_failures(hash) end
end
-- The failed command of a group leads it no more, and nobody else does: it waits for a person, and
-- nothing more is told of it, for its end has been told.
local function orphan(id, entry, code)
  local hash = prefix .. 'group:' .. id
  if redis.call('TYPE', hash)['ok'] ~= 'hash' then return end
  local of = redis.call('HMGET', hash, 'state', 'entry', 'reason')
  local state, reason = of[1], 'its command failed: ' .. code
  if of[2] ~= entry then return end
  if state ~= 'running' and state ~= 'paused' and state ~= 'cancelling' then return end
  if state == 'running' then state = 'paused' end
  if of[3] and of[3] ~= '' then reason = reason .. '; ' .. of[3] end
  redis.call('HSET', hash, 'state', state, 'reason', reason, 'orphaned', 1)
end
-- For people alone: a text under its own key means that its command is open.
local function keep_text(id)
  local text = redis.pcall('GET', prefix .. 'text:' .. id)
  if type(text) == 'string' then redis.pcall('SET', prefix .. 'sent:' .. id, text, 'EX', ARGV[4]) end
end
-- What is deleted of those that end: one call each, whatever becomes of the runs behind them.
local texts, ended = {}, {i = {}, b = {}}
local function delete_later(id, lane)
  texts[#texts + 1] = prefix .. 'text:' .. id
  local ids = ended[lane] or ended.i
  ids[#ids + 1] = id
end
-- Whether this very end stands in its row. Whoever claims that next changes the token once more, or
-- the claims: they count up from those of the run before.
local function is_recorded(row, i)
  local is = redis.pcall('HMGET', row, 'n', 's', 'e', 'c')
  if is['err'] or is[1] ~= next_token(ARGV[i + 1]) or is[2] ~= ARGV[i + 3] then return false end
  if ARGV[i + 4] == '1' then return is[3] end
  return not is[3] and is[4] == ARGV[i + 7]
end
-- Returns what became of one run, and an error that ends the script.
local function finish_run(i)
  local id, token = ARGV[i], ARGV[i + 1]
  local row = prefix .. 'command:' .. id
  if redis.pcall('HGET', row, 'n') ~= token then return is_recorded(row, i) and 2 or 0 end
  local due = ARGV[i + 2] == 'b' and KEYS[4] or KEYS[3]
  local dead_letter, lock, group = ARGV[i + 12], ARGV[i + 13], ARGV[i + 14]
  local event, event_id = ARGV[i + 10], ''
  if event ~= '' then event_id = redis.call('XADD', KEYS[1], '*', 'event', event) end
  if dead_letter ~= '' then
    local letter = redis.pcall('XADD', KEYS[2], '*', 'dead_letter', dead_letter)
    if type(letter) == 'table' then
      -- Nothing else of this run is written; its repetition tells the event again.
      if event_id ~= '' then redis.call('XDEL', KEYS[1], event_id) end
      return nil, letter
    end
  end
  if ARGV[i + 4] == '1' and group ~= '' then
    local refused = end_member(id, row, group, ARGV[i + 3], ARGV[i + 15], ARGV[i + 16])
    if refused then
      if event_id ~= '' then redis.call('XDEL', KEYS[1], event_id) end
      return refused['err']
    end
    delete_later(id, ARGV[i + 2])
  elseif ARGV[i + 4] == '1' then
    if ARGV[i + 3] == 'failed' then orphan(id, redis.call('HGET', row, 'q'), ARGV[i + 16]) end
    redis.call('HSET', row, 's', ARGV[i + 3], 'n', next_token(token), 'a', ARGV[i + 6],
      'e', now_text, 'v', event_id)
    redis.call('HDEL', row, 'p', 'x', 'c', 'h', 'k', 'w', 'z')
    redis.call('EXPIRE', row, keep_seconds)
    if ARGV[i + 18] == '1' then keep_text(id) end
    delete_later(id, ARGV[i + 2])
  else
    redis.call('HSET', row, 's', ARGV[i + 3], 'n', next_token(token), 'a', ARGV[i + 6],
      'c', ARGV[i + 7])
    if ARGV[i + 8] ~= '' then redis.call('HSET', row, 'p', ARGV[i + 8]) end
    if ARGV[i + 17] ~= '' then redis.call('HSET', row, 'h', ARGV[i + 17]) end
    if ARGV[i + 9] ~= '' then redis.call('HSET', row, 'x', ARGV[i + 9]) end
    if ARGV[i + 16] ~= '' then
      redis.call('HSET', row, 'w', ARGV[i + 16])
    else
      redis.call('HDEL', row, 'w')
    end
    redis.call('ZADD', due, now + tonumber(ARGV[i + 5]), id)
  end
  if deadlines and ARGV[i + 4] == '1' then redis.call('ZREM', KEYS[5], id) end
  answer(ARGV[i + 11], event, now, reply_seconds)
  if lock ~= '' and redis.pcall('GET', lock) == id then redis.call('DEL', lock) end
  return 1
end
-- Returns what the script returns.
local function finish_all()
  local verdicts = {}
  for i = 5, #ARGV, 19 do
    local verdict, trouble = finish_run(i)
    if trouble then return trouble end
    verdicts[#verdicts + 1] = verdict
  end
  return verdicts
end
local is_done, told = pcall(finish_all)
if #texts > 0 then redis.call('DEL', unpack(texts)) end
if #ended.i > 0 then redis.call('ZREM', KEYS[3], unpack(ended.i)) end
if #ended.b > 0 then redis.call('ZREM', KEYS[4], unpack(ended.b)) end
if not is_done then raise(told) end
return told

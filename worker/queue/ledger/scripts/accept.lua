#!lua
-- Makes rows of commands, first writer wins, and acknowledges their stream entries. At rest it
-- claims them too.
--
-- KEYS  1 the stream of the entries  2 events  3 due:interactive  4 due:bulk  5 epoch  6 deadlines
--       7 hold  8 paused:interactive
-- ARGV  1 key prefix  2 group  3 seconds reply streams are kept  4 the epoch or ""
--       5 what makes an origin of an entry's id when it stands before it
--       6 lease in ms  7 most that may be claimed  8 who claims
--       9 1 if the lanes take turns, for whoever claims has one slot for both
--       then for each command 11 values:
--       entry id, command id, type, fingerprint, lane (i or b), not before (ms, 0 = now),
--       text, accepted event, reply stream or "", deadline (ms) or "", 1 if nobody chose the id
-- Returns {statuses, now (ms)}; for each command: 0 accepted, 1 known already, 2 known with another
--         content, or its row's key holds something else (that entry stays pending, for it has to be
--         rejected), 3 nobody chose the id and it is another command's (it stays pending, for
--         another id), 4 accepted and claimed, with token 1, 5 the same, by an earlier call whose
--         reply was lost: this is the same lease
--
-- An interactive command without `notbefore` is claimed at once where nothing of its lane is due,
-- held or paused, so that it takes nobody's turn. What is due of the bulk lane has slots of its own.
--
-- An id that nobody chose is made of the entry's, and two entries may have the same: only the row
-- that names the same origin is this command's own.
--
-- The first calls read every shared key, so that a key of the wrong type stops the script
-- before it has written; a key that is one command's own harms no other command. Without
-- `allow-oom` a full Redis refuses the script whole.
-- Rights: HGET command:  HMGET command:  HSET command:  SET text:  ZADD 3  XACK 1  XDEL 1
-- Rights: TYPE replies:  XADD replies:  EXPIRE replies:
local prefix, group, reply_seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2])
redis.call('ZCARD', KEYS[3]); redis.call('ZCARD', KEYS[4]); redis.call('ZCARD', KEYS[6])
-- In an emptied ledger every id looks new, though its command may have been carried out.
if ARGV[4] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[4] then
  return redis.error_reply('LEDGERLOST the epoch is gone')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Include: answer
-- Include: raise
local most, holder = tonumber(ARGV[7]), ARGV[8]
-- As texts, for Redis writes each number of a call as a floating one.
local now_text, lease_end = string.format('%d', now), string.format('%d', now + tonumber(ARGV[6]))
if most > 0 and (redis.call('PTTL', KEYS[7]) > 0 or redis.call('EXISTS', KEYS[8]) == 1
  or redis.call('ZCOUNT', KEYS[3], '-inf', now_text) > 0
  or ARGV[9] == '1' and redis.call('ZCOUNT', KEYS[4], '-inf', now_text) > 0) then
  most = 0
end
-- Whether an earlier call by the same holder has claimed it, and nobody has since. One whose run
-- has come further is left until its lease ends: whoever claims it then goes on from there.
local function claimed_before(row, entry)
  local is = redis.call('HMGET', row, 'k', 'n', 's', 'q', 'p', 'h')
  return holder ~= '' and is[1] == holder and is[2] == '1' and is[3] == 'running'
    and is[4] == ARGV[5] .. entry and not is[5] and not is[6]
end
local statuses, done = {}, {}
-- Due times and ids, by lane: for each lane one call, whatever becomes of the commands behind them.
local dues = {i = {}, b = {}}
local function due(lane, at, id)
  local set = dues[lane] or dues.i
  set[#set + 1], set[#set + 2] = at, id
end
local function accept_all()
  for i = 10, #ARGV, 11 do
    local entry, id, fingerprint, lane = ARGV[i], ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]
    local row = prefix .. 'command:' .. id
    local known = redis.pcall('HGET', row, 'f')
    local status = 0
    if not known then
      local not_before = tonumber(ARGV[i + 5])
      -- First what may be refused: a row without its event would pass for known when repeated.
      redis.call('XADD', KEYS[2], '*', 'event', ARGV[i + 7])
      answer(ARGV[i + 8], ARGV[i + 7], now, reply_seconds)
      if most > 0 and lane == 'i' and not_before == 0 then
        most, status = most - 1, 4
        redis.call('HSET', row, 't', ARGV[i + 2], 'f', fingerprint, 's', 'running', 'l', lane,
          'n', '1', 'a', '0', 'c', '1', 'm', now_text, 'q', ARGV[5] .. entry, 'k', holder)
        due(lane, lease_end, id)
      else
        redis.call('HSET', row, 't', ARGV[i + 2], 'f', fingerprint, 's', 'accepted', 'l', lane,
          'n', '0', 'a', '0', 'c', '0', 'm', now_text, 'q', ARGV[5] .. entry)
        local due_at = not_before > now and ARGV[i + 5] or now_text
        due(lane, due_at, id)
      end
      redis.call('SET', prefix .. 'text:' .. id, ARGV[i + 6])
      -- The row knows its times too, so that a due set that someone deletes can be made again.
      if not_before > now then redis.call('HSET', row, 'o', ARGV[i + 5]) end
      if ARGV[i + 9] ~= '' then
        redis.call('HSET', row, 'd', ARGV[i + 9])
        redis.call('ZADD', KEYS[6], ARGV[i + 9], id)
      end
    elseif ARGV[i + 10] == '1' then
      local is_own = known == fingerprint and redis.call('HGET', row, 'q') == ARGV[5] .. entry
      status = is_own and 1 or 3
    elseif known == fingerprint then
      status = 1
    else
      status = 2
    end
    if status == 1 and claimed_before(row, entry) then
      status = 5
      redis.call('ZADD', KEYS[3], lease_end, id)
    end
    if status ~= 2 and status ~= 3 then
      done[#done + 1] = entry
    end
    statuses[#statuses + 1] = status
  end
end
local is_done, why = pcall(accept_all)
if #dues.i > 0 then redis.call('ZADD', KEYS[3], unpack(dues.i)) end
if #dues.b > 0 then redis.call('ZADD', KEYS[4], unpack(dues.b)) end
if not is_done then raise(why) end
if #done > 0 then
  redis.call('XACK', KEYS[1], group, unpack(done))
  redis.call('XDEL', KEYS[1], unpack(done))
end
return {statuses, now}

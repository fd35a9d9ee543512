#!lua flags=allow-oom
-- Finds rows that have not ended and that nobody would ever look at again, and puts them back.
--
-- KEYS  1 due:interactive  2 due:bulk  3 due:suspect  4 deadlines
-- ARGV  1 key prefix  2 lease in ms  3 1 to put back, 0 to look only, then row ids
-- Returns for each row id {what was found, a lease or nil, type}:
--         0 nothing to do  1 it stood in no due set  2 its deadline or its place among the open
--         members of its group was missing  3 a part of it is gone; whoever claims it finds that
--         out  4 a part of it is gone and nobody runs it: it is to be ended by the lease
--         5 its key holds something else
--
-- What may be running stays safe for a lease: its worker finds the row in the due set again when it
-- renews. A member of a paused group stands in no due set on purpose.
--
-- Rights: HGET command:  HMGET command:  HSET command:  GET text:  HGET group:  SADD group-open:  ZREM 1  ZADD 1
-- Include: newer
local prefix, lease, mends = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
for i = 1, 4 do redis.call('ZCARD', KEYS[i]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local states = {accepted = 1, running = 1, retrying = 1, polling = 1, in_doubt = 1}
local function stands(id)
  for i = 1, 3 do
    if redis.call('ZSCORE', KEYS[i], id) then return true end
  end
  return false
end
-- Each end has a token, so that two workers which find the same row end it once.
local function lease_to_end(id, row, is, group)
  local lane = (is[7] == 'b' or group) and 'b' or 'i'
  local made = {
    s = states[is[1]] and is[1] or 'accepted', n = (tonumber(is[2]) or 0) + 1,
    a = tonumber(is[3]) or 0, c = tonumber(is[4]) or 0, m = tonumber(is[5]) or now,
    q = is[6] or 'lost:' .. string.gsub(id, '\31', '/'), t = is[12] or '', l = lane, g = now,
  }
  for i = 1, 3 do redis.call('ZREM', KEYS[i], id) end
  for field, value in pairs(made) do redis.call('HSET', row, field, value) end
  if group then redis.call('HSET', row, 'b', group) end
  if not is[13] then redis.call('HSET', row, 'f', '') end
  local text = redis.pcall('GET', prefix .. 'text:' .. id)
  return {id, made.n, lane, made.s, made.a, made.c, made.m, made.q, '', '',
    type(text) == 'string' and text or '', group or '', ''}
end
-- As `claim` judges a row; one whose number is none must not end the scan of all others.
local function counts(value) return value and string.find(value, '^%d+$') end
local function look(id)
  local row, text = prefix .. 'command:' .. id, prefix .. 'text:' .. id
  -- Nearly all rows have ended, and there may be millions: one field tells it.
  local ended = redis.pcall('HGET', row, 'e')
  if type(ended) == 'table' then return {5} end
  if ended then return {0} end
  local is = redis.pcall('HMGET', row, 's', 'n', 'a', 'c', 'm', 'q', 'l', 'b', 'd', 'o', 'g', 't',
    'f', 'u')
  -- What makes a row of a newer format whole is not known here.
  if is_newer(is[14]) then return {0} end
  local has_text = redis.call('TYPE', text)['ok'] == 'string'
  local has_row = redis.call('EXISTS', row) == 1
  -- Whatever ends a row deletes its text in the same step: a text alone is of one that was open.
  if not has_row and not has_text then return {0} end
  local group = is[8] or string.match(id, '^(.+)\31%d+$') or nil
  local is_whole = has_text and is[1] and counts(is[2]) and counts(is[3]) and counts(is[4])
    and counts(is[5]) and is[6] and is[7]
  local is_due = stands(id)
  if not is_whole then
    local is_idle = not has_row or not is_due and (is[11] or not is[2] or is[2] == '0')
    if is_idle then
      if not mends then return {4} end
      return {4, lease_to_end(id, row, is, group), is[12] or ''}
    end
    if mends and not is_due then
      redis.call('ZADD', is[7] == 'b' and KEYS[2] or KEYS[1], now + lease, id)
    end
    return {3}
  end
  local found = 0
  local state = group and redis.pcall('HGET', prefix .. 'group:' .. group, 'state')
  local leads = state == 'running' or state == 'paused' or state == 'cancelling'
  if mends and leads then
    if redis.pcall('SADD', prefix .. 'group-open:' .. group, id) == 1 then found = 2 end
  end
  if counts(is[9]) and not redis.call('ZSCORE', KEYS[4], id) then
    found = 2
    if mends then redis.call('ZADD', KEYS[4], is[9], id) end
  end
  if is_due or state == 'paused' then return {found} end
  if mends then
    local due_at = now + lease
    if is[1] == 'accepted' and is[2] == '0' then
      due_at = math.max(now, counts(is[10]) and tonumber(is[10]) or 0)
    end
    redis.call('ZADD', is[7] == 'b' and KEYS[2] or KEYS[1], due_at, id)
  end
  return {1}
end
local found = {}
for i = 4, #ARGV do found[#found + 1] = look(ARGV[i]) end
return found

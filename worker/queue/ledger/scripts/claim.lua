#!lua
-- Takes the lease of rows that are due: a new fencing token, and the lease's end as due time.
--
-- KEYS  1 due:interactive  2 due:bulk  3 due:suspect  4 hold  5 paused:interactive
--       6 paused:bulk
-- ARGV  1 key prefix  2 lease in ms  3 most of all  4 bulk rows that come first
--       5 most of the bulk lane  6 suspects, 0 or 1  7 claims that make a row a suspect
--       8 ms that a hold lasts at most  9 most bytes of texts: at these no more rows follow
--       10 most of them in the bulk lane
-- Returns {ms for which nothing may be claimed, rows, paused lanes (1 interactive, 2 bulk),
--         row ids that were dropped, rows skipped, 1 if the bytes of texts left rows behind, row ids
--         that only a newer version can read};
--         each row: row id, token, lane,
--         state before, attempts, claims, accepted at (ms), entry id, progress or "",
--         last errors or "", text, group or "", phase or "",
--         ms by which one that polls is late, or ""
--
-- A member whose group is paused is set aside: it stands in no due set until the group runs again.
-- One whose group has ended, or is about to, is gone. One whose group's key holds something else is
-- looked at again in a moment.
--
-- A row of a newer format is looked at again in a moment: it is for workers of a newer version.
--
-- The interactive lane goes first but for a small share of the bulk lane, so that neither
-- starves the other. A row that was claimed again and again without an end is a suspect: it may
-- kill its worker. Suspects stand in a set of their own and run one at a time in a process, so
-- that they can't take others with them.
--
-- Rights: GET 4  HMGET command:  GET text:  HGET group:  ZRANGEBYSCORE 1  ZCOUNT 1  ZRANGE 1
-- Rights: ZSCORE 1
-- Rights: HSET command:  HSET 5  ZREM 1  ZADD 1  DEL command: text:  SREM group-open:  HINCRBY group:
-- Include: newer
-- Include: raise
local prefix, lease = ARGV[1], tonumber(ARGV[2])
local newer_ms = 2000
local most, suspect_claims = tonumber(ARGV[3]), tonumber(ARGV[7])
local hold = redis.call('PTTL', KEYS[4])
if hold > 0 then
  -- Redis keeps the moment at which a key expires: a clock that went back has made it last longer.
  local value = redis.pcall('GET', KEYS[4])
  local own = type(value) == 'string' and tonumber(string.match(value, '^(%d+) ')) or hold
  local longest = math.min(own, tonumber(ARGV[8]))
  if hold > longest and type(value) == 'string' then
    hold = longest
    redis.call('SET', KEYS[4], value, 'PX', hold)
  end
  return {hold, {}, 0, {}, 0, 0, {}}
end
-- A shared key of the wrong type stops the script before it has written.
for i = 1, 3 do redis.call('ZCARD', KEYS[i]) end
redis.call('HLEN', KEYS[5]); redis.call('HLEN', KEYS[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- As texts, for Redis writes each number of a call as a floating one.
local now_text, lease_end = string.format('%d', now), string.format('%d', now + lease)
local lease_ends = {i = {}, b = {}}
local claimed, dropped, newer, skipped = {}, {}, {}, 0
local bytes, bulk_bytes, is_cut = 0, 0, 0
local most_bytes, most_bulk_bytes = tonumber(ARGV[9]), tonumber(ARGV[10])
local function skip(due, id, row, group)
  local hash = prefix .. 'group:' .. group
  local state = redis.pcall('HGET', hash, 'state')
  if state == 'running' then return false end
  if type(state) == 'table' then
    -- Its key holds something else. The group may be put right; its members could not be made again.
    redis.call('ZADD', due, now + newer_ms, id)
    skipped = skipped + 1
    return true
  end
  redis.call('ZREM', due, id)
  skipped = skipped + 1
  if state ~= 'paused' then
    redis.call('DEL', row, prefix .. 'text:' .. id)
    if redis.pcall('SREM', prefix .. 'group-open:' .. group, id) == 1 and type(state) == 'string' then
      redis.pcall('HINCRBY', hash, 'dropped', 1)
    end
  end
  return true
end
-- One row whose number is none must not end the script, and with it the claims of all others.
local function counts(value) return value and string.find(value, '^%d+$') end
local function take_each(due, only_lane, wanted, ids)
  if wanted < 1 then return end
  ids = ids or redis.call('ZRANGEBYSCORE', due, '-inf', now_text, 'LIMIT', 0, wanted)
  for _, id in ipairs(ids) do
    if bytes >= most_bytes then is_cut = 1; return end
    if only_lane == 'b' and bulk_bytes >= most_bulk_bytes then return end
    local row = prefix .. 'command:' .. id
    local is = redis.pcall('HMGET', row, 's', 'n', 'a', 'c', 'm', 'q', 'p', 'x', 'l', 'b', 'h',
      'u')
    local text = redis.pcall('GET', prefix .. 'text:' .. id)
    local is_whole = is[1] and counts(is[2]) and counts(is[3]) and counts(is[4])
      and counts(is[5]) and is[6] and is[9]
    if is_newer(is[12]) then
      redis.call('ZADD', due, now + newer_ms, id)
      newer[#newer + 1] = id
      skipped = skipped + 1
    elseif is['err'] or not is_whole or type(text) ~= 'string' then
      -- A part of the row is gone, or its key holds something else: someone meddled with keys, or
      -- took from us the right to write the rest. It can't be run, only be dropped, and must not
      -- stand in the way of all others.
      redis.call('ZREM', due, id)
      -- Nobody runs it, or its due time would lie ahead: `restore` may end it.
      if is[1] or is[2] then redis.call('HSET', row, 'g', now) end
      dropped[#dropped + 1] = id
    elseif is[10] and skip(due, id, row, is[10]) then
      -- Nothing more is to be done with it now.
    elseif only_lane and tonumber(is[4]) >= suspect_claims then
      redis.call('HSET', row, 'n', is[2] + 1)
      redis.call('ZREM', due, id)
      redis.call('ZADD', KEYS[3], now, id)
    else
      local token, claims, state = is[2] + 1, is[4] + 1, is[1]
      if state == 'accepted' or state == 'retrying' then state = 'running' end
      local due_at = state == 'polling' and tonumber(redis.call('ZSCORE', due, id))
      local late = due_at and math.floor(now - due_at) or ''
      redis.call('HSET', row, 'n', string.format('%d', token), 'c', string.format('%d', claims),
        's', state)
      if not only_lane then redis.call('ZREM', due, id) end
      local ends = is[9] == 'b' and lease_ends.b or lease_ends.i
      ends[#ends + 1], ends[#ends + 2] = lease_end, id
      claimed[#claimed + 1] = {id, token, is[9], is[1], is[3], claims, is[5], is[6],
        is[7] or '', is[8] or '', text, is[10] or '', is[11] or '', late}
      bytes = bytes + #text
      if is[9] == 'b' then bulk_bytes = bulk_bytes + #text end
    end
  end
end
-- The ends of leases are written in one call for each lane, whatever becomes of the rows behind them.
local function take(...)
  local is_done, why = pcall(take_each, ...)
  if #lease_ends.i > 0 then redis.call('ZADD', KEYS[1], unpack(lease_ends.i)) end
  if #lease_ends.b > 0 then redis.call('ZADD', KEYS[2], unpack(lease_ends.b)) end
  lease_ends = {i = {}, b = {}}
  if not is_done then raise(why) end
end
-- A paused lane lets one row through when its pause is over: the probe. No pause is longer than
-- the time between two probes, whatever the server's clock did since.
local function paused(key)
  local state = redis.call('HMGET', key, 'until', 'probe_ms')
  if not state[1] then return false, nil end
  -- What is no number was written by someone else, and is over.
  local next_probe, over_at = now + (tonumber(state[2]) or 0), tonumber(state[1]) or 0
  if over_at > next_probe then redis.call('HSET', key, 'until', next_probe) end
  return true, over_at <= now and next_probe or nil
end
-- The probe is any of those that are due, so that no one of them can keep a lane paused. The next
-- pause begins when one was found, not when one was looked for.
local function probe(due, lane, key, next_probe)
  local count = redis.call('ZCOUNT', due, '-inf', now)
  if not next_probe or count == 0 then return end
  local before, drawn = #claimed, time[2] % count
  take(due, lane, 1, redis.call('ZRANGE', due, drawn, drawn))
  if #claimed > before then redis.call('HSET', key, 'until', next_probe) end
end
local interactive_paused, interactive_next = paused(KEYS[5])
local bulk_paused, bulk_next = paused(KEYS[6])
local bulk_most = math.min(most, tonumber(ARGV[5]))
if not bulk_paused then
  take(KEYS[2], 'b', math.min(bulk_most, tonumber(ARGV[4])))
elseif bulk_most > 0 then
  probe(KEYS[2], 'b', KEYS[6], bulk_next)
end
local bulk = #claimed
if not interactive_paused then
  take(KEYS[1], 'i', most - bulk)
elseif most > bulk then
  probe(KEYS[1], 'i', KEYS[5], interactive_next)
end
if not bulk_paused then take(KEYS[2], 'b', math.min(most - #claimed, bulk_most - bulk)) end
take(KEYS[3], nil, math.min(most - #claimed, tonumber(ARGV[6])))
local paused_lanes = (interactive_paused and 1 or 0) + (bulk_paused and 2 or 0)
return {0, claimed, paused_lanes, dropped, skipped, is_cut, newer}

#!lua
-- Makes rows of the next items and moves the cursor behind them, in one step: a reader that dies
-- before it has read them in vain, one that dies after it will not read them again.
--
-- KEYS  1 backfill  2 group-open  3 group-results  4 due:bulk  5 epoch  6 group
-- ARGV  1 key prefix  2 id  3 leader's token  4 number of the first item
--       5 position behind the last one  6 1 if the source ends there, else 0  7 epoch or ""
--       8 what stands between the backfill's id and an item's number in a row id
--       9 what was passed over before the last one, as JSON of kind and count, or ""
--       then for each item 2 values: its text, or "" and the record of what is wrong with it
-- Returns {1, state} done, {0, state} fenced, or the cursor stands elsewhere
--
-- Rights: HSET command:  HSET 1  SET text:  DEL command:  HINCRBY 1  HINCRBY 6  XADD 3  XDEL 3  SADD 2  ZADD 4
local prefix, backfill, first, separator = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[8]
redis.call('SCARD', KEYS[2]); redis.call('XLEN', KEYS[3]); redis.call('ZCARD', KEYS[4])
if ARGV[7] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[7] then
  return redis.error_reply('LEDGERLOST the epoch is gone')
end
local is = redis.call('HMGET', KEYS[1], 'leader', 'read')
local of = redis.call('HMGET', KEYS[6], 'state', 'entry')
if not is[1] or not of[2] or is[1] ~= ARGV[3] or is[2] ~= ARGV[4] or of[1] ~= 'running' then
  return {0, of[1] or ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- First what may be refused, for nothing of it may be there twice when all of it is repeated: a
-- count that is no number, then a stream that takes no more.
local counts, raised, bad, bad_count = {}, {}, {}, 0
for i = 10, #ARGV, 2 do if ARGV[i] == '' then bad_count = bad_count + 1 end end
if bad_count > 0 then counts['failed'], counts['failed:invalid_item'] = bad_count, bad_count end
if ARGV[9] ~= '' then
  for kind, count in pairs(cjson.decode(ARGV[9])) do counts['passed:' .. kind] = count end
end
-- Ends of items are the group's to count, what was passed over the backfill's.
local function home(field) return string.find(field, '^passed:') and KEYS[1] or KEYS[6] end
local function undo(refused)
  for field, count in pairs(raised) do redis.call('HINCRBY', home(field), field, -count) end
  if #bad > 0 then redis.call('XDEL', KEYS[3], unpack(bad)) end
  return refused
end
for field, count in pairs(counts) do
  local counted = redis.pcall('HINCRBY', home(field), field, count)
  if type(counted) == 'table' then return undo(counted) end
  raised[field] = count
end
for i = 10, #ARGV, 2 do
  if ARGV[i] == '' then
    local entry = redis.pcall('XADD', KEYS[3], '*', 'result', ARGV[i + 1])
    if type(entry) == 'table' then return undo(entry) end
    bad[#bad + 1] = entry
  end
end
local function make(row, number)
  return redis.pcall('HSET', row, 't', 'predict', 'f', '', 's', 'accepted',
    'l', 'b', 'n', 0, 'a', 0, 'c', 0, 'm', now,
    'q', of[2] .. '-' .. string.format('%d', number), 'b', backfill)
end
local number = first
for i = 10, #ARGV, 2 do
  if ARGV[i] ~= '' then
    local id = backfill .. separator .. string.format('%d', number)
    local row = prefix .. 'command:' .. id
    -- Nobody else has a right to such a key: what is no row there stands in the way of one.
    if type(make(row, number)) == 'table' then
      redis.call('DEL', row)
      make(row, number)
    end
    redis.call('SET', prefix .. 'text:' .. id, ARGV[i])
    redis.call('SADD', KEYS[2], id)
    redis.call('ZADD', KEYS[4], now, id)
  end
  number = number + 1
end
redis.call('HSET', KEYS[1], 'read', number, 'position', ARGV[5], 'exhausted', ARGV[6])
return {1, of[1]}

#!lua
-- Records a delivery together with what its rules made of it: commands, dead letters, and what
-- joins windows. Of a delivery that is known it does nothing.
--
-- KEYS  1 the delivery  2 deliveries  3 commands  4 commands:bulk  5 dead-letters  6 windows
-- ARGV  1 key prefix  2 seconds that a delivery is kept  3 the delivery's name
--       4 the outcome that a replay has read, "" for a new delivery  5 its outcome
--       6 most deliveries of a window  7 most bytes of a window
--       8 how many values follow that are the delivery's fields, each a name and its value
--       9 how many values follow those that are entries: index of the stream's key, the text
--       then for each that joins a window 5 values: the window's name, the id of a new window,
--       ms that a new one stays open, what it says of itself, what joins
-- Returns {1 recorded now or 0 known, its outcome, ids of its windows, one a line}
--
-- A script is not rolled back: wrong types are found first, entries that were added are taken back
-- where a later one is refused, and the delivery, for which all this is done once, comes last.
-- Rights: XDEL 3  XDEL 4  XDEL 5  XADD 3  XADD 4  XADD 5  RPUSH window:  HSET window-open:
-- Rights: LLEN window:  HMGET window-open:  ZADD 6  HSET 1  EXPIRE 1  ZADD 2  ZREMRANGEBYSCORE 2
local prefix, name = ARGV[1], ARGV[3]
local known = redis.call('HMGET', KEYS[1], 'outcome', 'windows')
if (known[1] or '') ~= ARGV[4] then return {0, known[1] or '', known[2] or ''} end
redis.call('ZCARD', KEYS[2]); redis.call('ZCARD', KEYS[6])
redis.call('XLEN', KEYS[3]); redis.call('XLEN', KEYS[4]); redis.call('XLEN', KEYS[5])
local first_entry = 10 + tonumber(ARGV[8])
local first_item = first_entry + tonumber(ARGV[9])
-- The window that an item joins, and how many bytes that has: none where nobody may join it.
local function open_window(window_name)
  local open = redis.call('HMGET', prefix .. 'window-open:' .. window_name, 'id', 'bytes')
  if not open[1] or redis.call('LLEN', prefix .. 'window:' .. open[1]) == 0 then return nil, 0 end
  return open[1], tonumber(open[2]) or 0
end
for i = first_item, #ARGV, 5 do
  open_window(ARGV[i])
  redis.call('LLEN', prefix .. 'window:' .. ARGV[i + 1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Include: add_entries
local refused = add_entries(first_entry, first_item - 1)
if refused then return refused end
local joined = {}
for i = first_item, #ARGV, 5 do
  local window, bytes = open_window(ARGV[i])
  local item = ARGV[i + 4]
  local is_full = window and (redis.call('LLEN', prefix .. 'window:' .. window) > tonumber(ARGV[6])
    or bytes + #item > tonumber(ARGV[7]))
  if is_full then
    redis.call('ZADD', KEYS[6], now, window)
    window = nil
  end
  if not window then
    window, bytes = ARGV[i + 1], 0
    redis.call('RPUSH', prefix .. 'window:' .. window, ARGV[i + 3])
  end
  -- Also for one that is open: the set may have been deleted meanwhile.
  redis.call('ZADD', KEYS[6], 'NX', now + tonumber(ARGV[i + 2]), window)
  redis.call('RPUSH', prefix .. 'window:' .. window, item)
  redis.call('HSET', prefix .. 'window-open:' .. ARGV[i], 'id', window, 'bytes', bytes + #item)
  joined[#joined + 1] = window
end
local windows = table.concat(joined, '\n')
if known[2] and known[2] ~= '' then
  windows = windows == '' and known[2] or known[2] .. '\n' .. windows
end
redis.call('ZADD', KEYS[2], 'NX', now, name)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. now - tonumber(ARGV[2]) * 1000)
redis.call('HSET', KEYS[1], 'outcome', ARGV[5], 'windows', windows,
  unpack(ARGV, 10, first_entry - 1))
if not known[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return {1, ARGV[5], windows}

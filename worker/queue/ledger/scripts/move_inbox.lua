#!lua
-- Moves what producers pushed to a list into the stream, oldest first.
--
-- KEYS  1 the list  2 what a blocking move has taken from it; the list again where none does
--       3 a stream of commands
-- ARGV  1 the most to move from the list  2 field of the stream's entries
--       3 LPOP or RPOP: the end of the list at which the oldest stands
--       4 bytes: no further message is moved once those moved have so many
-- Returns how many were moved
--
-- A script is not rolled back, so nothing is popped before the stream has it: a stream that takes
-- no more entries leaves the list as it is.
--
-- Rights: ARGV[3] 1
-- Where nothing is, a stream that is none keeps no other list waiting.
if redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) == 0 then return 0 end
redis.call('XLEN', KEYS[3])
local moved, bytes, most_bytes = 0, 0, tonumber(ARGV[4])
local function move(key, most)
  if most < 1 or bytes >= most_bytes then return end
  local is_left = ARGV[3] == 'LPOP'
  local added, refused, page = 0, nil, 1
  -- In pages that grow, so that no more than needed of large messages is held at a time.
  while added < most and not refused and bytes < most_bytes do
    local last = math.min(added + page, most)
    local texts = redis.call('LRANGE', key, is_left and added or -last, is_left and last - 1 or -added - 1)
    for step = 1, #texts do
      local text = texts[is_left and step or #texts + 1 - step]
      local entry = redis.pcall('XADD', KEYS[3], '*', ARGV[2], text)
      if type(entry) == 'table' then
        refused = entry
        break
      end
      added = added + 1
      bytes = bytes + #text
      if bytes >= most_bytes then break end
    end
    if added < last then break end
    page = page * 4
  end
  if added > 0 then redis.call(ARGV[3], key, added) end
  moved = moved + added
  return refused
end
local refused = KEYS[2] ~= KEYS[1] and move(KEYS[2], redis.call('LLEN', KEYS[2]))
refused = refused or move(KEYS[1], tonumber(ARGV[1]))
return refused or moved

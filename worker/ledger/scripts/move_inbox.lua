#!lua
-- Moves what producers pushed to a list into the stream, oldest first.
--
-- KEYS  1 the list  2 what a blocking move has taken from it  3 commands
-- ARGV  1 the most to move from the list  2 field of the stream's entries
--       3 LPOP or RPOP: the end of the list at which the oldest stands
-- Returns how many were moved
redis.call('LLEN', KEYS[1]); redis.call('LLEN', KEYS[2]); redis.call('XLEN', KEYS[3])
local moved = 0
local function move(key, most)
  local texts = redis.call(ARGV[3], key, most)
  if not texts then return end
  for _, text in ipairs(texts) do
    redis.call('XADD', KEYS[3], '*', ARGV[2], text)
    moved = moved + 1
  end
end
move(KEYS[2], redis.call('LLEN', KEYS[2]) + 1)
move(KEYS[1], tonumber(ARGV[1]))
return moved

#!lua
-- Moves what producers pushed to the inbox into the stream, oldest first.
--
-- KEYS  1 inbox  2 inbox:moving  3 commands
-- ARGV  1 the most to move from the inbox
-- Returns how many were moved
redis.call('LLEN', KEYS[1]); redis.call('LLEN', KEYS[2]); redis.call('XLEN', KEYS[3])
local moved = 0
local function move(key, most)
  local texts = redis.call('LPOP', key, most)
  if not texts then return end
  for _, text in ipairs(texts) do
    redis.call('XADD', KEYS[3], '*', 'command', text)
    moved = moved + 1
  end
end
move(KEYS[2], redis.call('LLEN', KEYS[2]) + 1)
move(KEYS[1], tonumber(ARGV[1]))
return moved

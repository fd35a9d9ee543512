#!lua
-- Adds commands to their streams, each id once.
--
-- KEYS  1 commands  2 commands:bulk
-- ARGV  1 key prefix
--       then for each command 6 values:
--       stream (1 or 2), id, fingerprint, type, seconds that the id is remembered, 0 for one that
--       nobody but the gateway knows, text
-- Returns for each command: 0 added, 1 known already, 2 known with another content, or an error: why
--         its stream takes no more
--
-- What the ledger knows of an id goes first; what it has not read yet is known by a key of its own,
-- so that a conflict is told to who sends it and not only to who reads events.
-- Rights: XADD 1  XADD 2  GET submitted:  SET submitted:
local prefix = ARGV[1]
redis.call('XLEN', KEYS[1]); redis.call('XLEN', KEYS[2])
local statuses = {}
for i = 2, #ARGV, 6 do
  local stream, id, fingerprint = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local seconds = tonumber(ARGV[i + 4])
  local known = false
  if seconds > 0 then
    local row = redis.pcall('HGET', prefix .. 'command:' .. id, 'f')
    if type(row) == 'string' then known = row end
    if not known then
      -- A key that holds something else is nobody's word on this id.
      local told = redis.pcall('GET', prefix .. 'submitted:' .. id)
      if type(told) == 'string' then known = string.sub(told, 1, #fingerprint) end
    end
  end
  local status = 0
  if not known then
    local added = redis.pcall('XADD', KEYS[stream], '*', 'command', ARGV[i + 5])
    if type(added) == 'table' then
      status = added
    elseif seconds > 0 then
      redis.call('SET', prefix .. 'submitted:' .. id, fingerprint .. ARGV[i + 3], 'EX', seconds)
    end
  elseif known == fingerprint then
    status = 1
  else
    status = 2
  end
  statuses[#statuses + 1] = status
end
return statuses

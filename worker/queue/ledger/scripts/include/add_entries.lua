-- Adds values of ARGV to streams: pairs of the index of the stream's key and the text, where key 5
-- is that of dead letters and others are of commands. Returns nothing, or why one was refused:
-- then those before it are taken back.
--
-- Its script asks for the rights XADD and XDEL of each stream, after it has seen that all are such.
local function add_entries(first, last)
  local added = {}
  for i = first, last, 2 do
    local stream = KEYS[tonumber(ARGV[i])]
    local field = ARGV[i] == '5' and 'dead_letter' or 'command'
    local entry = redis.pcall('XADD', stream, '*', field, ARGV[i + 1])
    if type(entry) == 'table' then
      for j = 1, #added, 2 do redis.call('XDEL', added[j], added[j + 1]) end
      return entry
    end
    added[#added + 1] = stream
    added[#added + 1] = entry
  end
end

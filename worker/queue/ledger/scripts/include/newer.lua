-- Whether a newer version wrote a row in a format that this one does not read; absent is 1, and what
-- is no number was written by someone else. The number is that of `worker.queue.ledger.format`.
local function is_newer(format)
  return format and (tonumber(format) or 0) > 1
end

-- ARGV[4..5]: the position after which to read. ARGV[6..7]: entries and bytes at most. ARGV[8]: "history" for what
-- readers may see, "all" for what followers still need.
local after = tonumber(ARGV[4]) == log.epoch and tonumber(ARGV[5]) or 0
local last = text(log.sequence) .. '-0'
local limit, bytes_max, is_history = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == 'history'

-- Sequences and records by turns, and whether these are all. What lies beyond the log's end is not the log's.
local function take(stream, trimmed)
  local from = is_history and math.max(after, trimmed) or after
  local found, bytes, taken, step = {}, 0, 0, 2
  while taken < limit and bytes < bytes_max do
    local count = math.min(step, limit - taken)
    local entries = redis.call('XRANGE', stream, text(from + 1) .. '-0', last, 'COUNT', count)
    for _, entry in ipairs(entries) do
      local record = entry[2][4] or ''
      from = sequence_of(entry)
      found[#found + 1] = from
      found[#found + 1] = record
      bytes = bytes + #record
    end
    taken = taken + #entries
    if #entries < count then
      return found, 1
    end
    -- A page of large entries must not be many times too large.
    step = step * 2
  end
  return found, from >= log.sequence and 1 or 0
end

local updates, updates_all = take(UPDATES, log.updates_trimmed)
local events, events_all = take(EVENTS, log.events_trimmed)
return { head(), updates, updates_all, events, events_all }

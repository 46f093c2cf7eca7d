-- Adds entries and trims the oldest. The bounds are ARGV[4..6]: updates, events, and the entries that are kept
-- for followers beyond those.

-- Entries that one call trims at most, more than any call adds: a bound that has been lowered must not stop the server.
local TRIM_MAX = 2000

-- Returns the error of the server, if there is one.
local function append(kind, id, record)
  local stream = kind == 'updates' and UPDATES or EVENTS
  local sequence = log.sequence + 1
  local added = redis.pcall('XADD', stream, text(sequence) .. '-0', 'id', id, 'record', record)
  if type(added) == 'table' and added.err then
    return added
  end
  redis.call('ZADD', IDS, 0, place(id, sequence))
  log.sequence, log.id = sequence, id
  log[kind] = log[kind] + 1
end

local function trim_one(kind, stream, kept_max)
  local left = TRIM_MAX
  while log[kind] > kept_max and left > 0 do
    local count = math.min(log[kind] - kept_max, 64, left)
    local first = text(log[kind .. '_trimmed'] + 1) .. '-0'
    local oldest = redis.call('XRANGE', stream, first, '+', 'COUNT', count)
    local places = {}
    for at, entry in ipairs(oldest) do
      log[kind .. '_trimmed'] = sequence_of(entry)
      places[at] = place(entry[2][2] or '', log[kind .. '_trimmed'])
    end
    if #places == 0 then
      return
    end
    redis.call('ZREM', IDS, unpack(places))
    log[kind] = log[kind] - #places
    left = left - #places
  end
end

local function trim()
  local updates_max, events_max, margin = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  trim_one('updates', UPDATES, updates_max)
  trim_one('events', EVENTS, events_max)
  local needed = log.sequence - margin
  if needed > 0 then
    redis.call('XTRIM', UPDATES, 'MINID', '~', text(math.min(log.updates_trimmed, needed) + 1))
    redis.call('XTRIM', EVENTS, 'MINID', '~', text(math.min(log.events_trimmed, needed) + 1))
  end
  save()
  return log.updates > updates_max or log.events > events_max
end

-- What every script begins with: the log as it stands, put right first if it is not whole.
--
-- ARGV[1..3]: the epoch, the sequence and the id of the newest entry that the caller knows of; an id is given only to
-- have it compared.
local LOG, UPDATES, EVENTS, IDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local SUBSCRIBERS, ORDER, OWNERS, LEASES = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local FORMAT = 1

local log = {}

local function text(number)
  return string.format('%.0f', number)
end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local FIELDS = {
  'format', 'epoch', 'sequence', 'updates', 'events', 'updates_trimmed', 'events_trimmed', 'subscribers', 'counter',
}

local function load()
  local values = redis.call('HMGET', LOG, 'id', unpack(FIELDS))
  for at, field in ipairs(FIELDS) do
    log[field] = tonumber(values[at + 1]) or 0
  end
  log.id = values[1]
end

local function save()
  local values = log.id and { 'id', log.id } or {}
  for _, field in ipairs(FIELDS) do
    values[#values + 1] = field
    values[#values + 1] = text(log[field])
  end
  redis.call('HSET', LOG, unpack(values))
end

-- An epoch after all that are known, also if the clock has been set back.
local function next_epoch()
  return math.max(now_us(), log.epoch + 1, tonumber(ARGV[1]) + 1)
end

-- Nothing is kept of a log of which a part is gone: nobody could tell what is missing.
local function begin_epoch()
  local epoch = next_epoch()
  redis.call('DEL', LOG, UPDATES, EVENTS, IDS, SUBSCRIBERS, ORDER, OWNERS, LEASES)
  for _, field in ipairs(FIELDS) do
    log[field] = 0
  end
  log.format, log.epoch, log.id = FORMAT, epoch, false
  save()
end

local function is_whole()
  return log.epoch > 0
    and redis.call('XLEN', UPDATES) >= log.updates
    and redis.call('XLEN', EVENTS) >= log.events
    and redis.call('ZCARD', IDS) == log.updates + log.events
    and redis.call('HLEN', SUBSCRIBERS) == log.subscribers
    and redis.call('ZCARD', ORDER) == log.subscribers
    and redis.call('ZCARD', OWNERS) == log.subscribers
end

-- Whether the log lacks what the caller has seen in it, as it does on a replica that had not received everything when
-- it became the primary.
local function has_gone_back()
  local epoch, sequence, id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
  if log.epoch ~= epoch then
    return log.epoch < epoch
  end
  if log.sequence < sequence then
    return true
  end
  if id == '' then
    return false
  end
  local at = text(sequence)
  for _, stream in ipairs({ UPDATES, EVENTS }) do
    local found = redis.call('XRANGE', stream, at, at)[1]
    if found then
      return found[2][2] ~= id
    end
  end
  return sequence > math.max(log.updates_trimmed, log.events_trimmed)
end

load()
if log.format > FORMAT then
  return redis.error_reply('LATER the log was written by a later version')
end
if not is_whole() then
  begin_epoch()
elseif has_gone_back() then
  -- What is left is as good as it was, at positions that nobody takes for those of before.
  log.epoch = next_epoch()
  save()
end

local function head()
  return { log.epoch, log.sequence, log.id, log.updates_trimmed, log.events_trimmed }
end

-- The place of an id in the index. No id holds the byte 255, as they are UTF-8.
local function place(id, sequence)
  return id .. '\255' .. string.format('%016d', sequence)
end

local function sequence_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

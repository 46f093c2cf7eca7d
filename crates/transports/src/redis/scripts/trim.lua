-- Whether there is more to trim.
local more = trim()
return { head(), more and 1 or 0 }

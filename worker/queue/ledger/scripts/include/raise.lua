-- Ends the script with an error that `pcall` has caught, as if nobody had: Redis hands it over as a
-- text, and a text raised again is no longer known by its first word, as OOM or WRONGTYPE.
local function raise(caught) error({err = caught}) end

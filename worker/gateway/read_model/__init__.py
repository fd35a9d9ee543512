"""What lists and searches of commands are answered from: a SQLite file that follows the events.

Workers pay nothing for it. It is thrown away and made anew from the stream whenever it is gone,
damaged, of another version, or tells of a stream that is no longer there.
"""

# Thin aliases; dev.py has the one list of what can be done.
.PHONY: demo test bench mutate check format lock setup

demo test bench mutate check format lock setup:
	python3 dev.py $@

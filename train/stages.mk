# The stages of chroma-nano and their dependencies (docs/nano.md). The Makefile includes this file.
#   make -j2 train-nano                        all stages, two at a time, each on one core
#   make train-nano RECIPE=gpu                 the same code on one GPU, every stage under 10 minutes
#   make train-nano STAGE=vocoder ARGS="--minutes 30 --resume"      one stage with further options

NANO ?= build/nano
STAGE ?=
ARGS ?=
STRANGERS ?=
RECIPE ?= cpu

NANO_STAGES := synthesis codes vocoder encoder speech hearing reasoner assemble
GPU_vocoder := --device cuda --batch 64 --minutes 9
GPU_encoder := --device cuda --batch 64 --minutes 5
GPU_speech := --device cuda --batch 96 --minutes 9
GPU_hearing := --device cuda --batch 512 --workers 12 --minutes 6
GPU_reasoner := --device cuda --batch 256 --group 256 --workers 12 --minutes 9

MODULE_synthesis := corpus.synthesis
MODULE_codes := codec.codes
MODULE_vocoder := codec.vocoder
MODULE_encoder := codec.encoder
MODULE_speech := speech.train
MODULE_hearing := hearing.train
MODULE_reasoner := reasoner.train
MODULE_assemble := pack.assemble

nano-stage = $(BIN)/python -m train.$(MODULE_$(1)) --root $(NANO) $(if $(filter gpu,$(RECIPE)),$(GPU_$(1))) $(ARGS)

.PHONY: setup-eval train-nano eval-nano eval-nano-strangers nano-replies nano-speakers nano-questions $(NANO_STAGES:%=nano-%)

measure-strangers = $(BIN)/python -m train.evaluation.strangers --root $(NANO) $(if $(MODEL),--checkpoint $(MODEL)) --page docs/nano.md $(STRANGERS)

$(VENV)/.installed-train: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train]"
	@touch $@

# Only the weights of Resemblyzer are used (clients/python/chroma_voice/eval/speakers/voice_print.py), so its dependencies are not installed.
$(VENV)/.installed-eval: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[eval]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps Resemblyzer
	@touch $@

setup-eval: $(VENV)/.installed-eval ## install what `chroma-voice eval` needs (docs/eval.md)

train-nano: ## train models/chroma-nano, hours on 2 cores (-j2: two stages at a time; STAGE=, ARGS=, RECIPE=gpu, NANO=)

eval-nano: $(VENV)/.installed-eval ## measure models/chroma-nano through the real services, on recordings that training never uses (MODEL=, ARGS=, STRANGERS=)
	$(BIN)/python -m train.evaluation --root $(NANO) $(if $(MODEL),--checkpoint $(MODEL)) --page docs/nano.md --picture docs/nano-spectrograms.png $(ARGS)
	$(measure-strangers)

eval-nano-strangers: $(VENV)/.installed-eval ## the part of eval-nano that measures how well strangers are cloned (MODEL=, STRANGERS=)
	$(measure-strangers)

nano-synthesis: nano-replies nano-speakers nano-questions
nano-replies nano-speakers nano-questions: nano-%: $(VENV)/.installed-train
	$(call nano-stage,synthesis) --part $*
nano-codes: $(VENV)/.installed-eval
nano-codes nano-vocoder nano-encoder nano-speech nano-hearing nano-reasoner: nano-%: $(VENV)/.installed-train
	$(call nano-stage,$*)
nano-assemble: $(VENV)/.installed-train
	$(call nano-stage,assemble)

ifneq ($(STAGE),)
train-nano: $(STAGE:%=nano-%)
else
train-nano: nano-assemble
nano-assemble: nano-encoder nano-speech nano-reasoner
nano-encoder: nano-vocoder
nano-vocoder nano-speech: nano-codes
nano-codes: nano-replies nano-speakers
nano-reasoner: nano-hearing
nano-hearing: nano-questions
endif

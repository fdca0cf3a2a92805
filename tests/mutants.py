"""Small wrong edits, each a mistake that somebody has made; the suite must catch every one.

A mutant names a folder's file, the right text in it, the wrong text to put there, and the
tests that have to notice. `test_mutants.py` applies them one at a time to a copy.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One wrong edit and the test file that must fail because of it."""

    file: str
    right: str
    wrong: str
    tests: str


LENET = "lenet_from_scratch"
MODEL, TRAIN = f"{LENET}/model.py", f"{LENET}/train.py"
CHECKPOINT, PREPARE = f"{LENET}/checkpoint.py", f"{LENET}/prepare.py"
MODEL_TESTS, TRAIN_TESTS = "test_lenet_model.py", "test_lenet_train.py"
CHECKPOINT_TESTS, PREPARE_TESTS = "test_lenet_checkpoint.py", "test_lenet_prepare.py"
DATA_TESTS = "test_lenet_data.py"

BACKPROP = "backprop_from_scratch"
LAYERS, LOSSES = f"{BACKPROP}/model.py", f"{BACKPROP}/losses.py"
OPTIMIZERS, CHECK = f"{BACKPROP}/optimizers.py", f"{BACKPROP}/gradient_check.py"
AUTOGRAD, LANDSCAPE = f"{BACKPROP}/autograd.py", f"{BACKPROP}/landscape.py"
LAYER_TESTS, OPTIMIZER_TESTS = "test_backprop_model.py", "test_backprop_optimizers.py"
CHECK_TESTS, AUTOGRAD_TESTS = "test_backprop_gradient_check.py", "test_backprop_autograd.py"
DEMO_TESTS, PICTURE_TESTS = "test_backprop_demo.py", "test_backprop_visualize.py"
BACKPROP_TRAIN, BACKPROP_CHECKPOINT = f"{BACKPROP}/train.py", f"{BACKPROP}/checkpoint.py"
BACKPROP_DATA, SCALING = f"{BACKPROP}/data.py", f"{BACKPROP}/scaling.py"
RUN_TESTS, FILE_TESTS = "test_backprop_train.py", "test_backprop_checkpoint.py"
SAMPLE_TESTS = "test_backprop_data.py"

LENET5 = "lenet5_from_scratch"
NETWORK, AUGMENT, EXPLAIN = (f"{LENET5}/{name}.py" for name in ("model", "augment", "explain"))
OPTIMIZATION, LOOP, TUNE = (f"{LENET5}/{name}.py" for name in ("optimization", "train", "tune"))
SEGMENT, DETECTOR = f"{LENET5}/segment.py", f"{LENET5}/detector.py"
NETWORK_TESTS, AUGMENT_TESTS = "test_lenet5_model.py", "test_lenet5_augment.py"
LOOP_TESTS, TUNE_TESTS = "test_lenet5_train.py", "test_lenet5_tune.py"
READER_TESTS, DETECTOR_TESTS = "test_lenet5_reader.py", "test_lenet5_detector.py"
EXPLAIN_TESTS, DRAWING_TESTS = "test_lenet5_explain.py", "test_lenet5_digits.py"

ALEXNET = "alexnet_from_scratch"
PLAN, CROPS = f"{ALEXNET}/model.py", f"{ALEXNET}/augment.py"
PLAN_TESTS, CROP_TESTS = "test_alexnet_model.py", "test_alexnet_augment.py"
WEIGHT_TESTS, SET_TESTS = "test_alexnet_published.py", "test_alexnet_data.py"
ANSWER_TESTS, SGD_TESTS = "test_alexnet_inference.py", "test_alexnet_train.py"
RANKS_TESTS = "test_alexnet_distributed.py"

ENCODER = "transformer_from_scratch"
BLOCK_TESTS, TEXT_TESTS = "test_transformer_model.py", "test_transformer_texts.py"
TABLE_TESTS, WARMUP_TESTS = "test_transformer_data.py", "test_transformer_train.py"
READING_TESTS = "test_transformer_inference.py"

WRITER = "gpt2_from_scratch"
GPT_TESTS, MERGE_TESTS = "test_gpt2_model.py", "test_gpt2_tokenizer.py"
CACHE_TESTS, LOADER_TESTS = "test_gpt2_cache.py", "test_gpt2_weights.py"
WRITING_TESTS, COSINE_TESTS = "test_gpt2_inference.py", "test_gpt2_train.py"

CODER = "vae_from_scratch"
BOUND_TESTS, CREATURE_TESTS = "test_vae_model.py", "test_vae_creatures.py"
INTEGRAL_TESTS, SPRITE_TESTS = "test_vae_likelihood.py", "test_vae_data.py"
WINGS_TESTS, PRICE_TESTS = "test_vae_inference.py", "test_vae_train.py"

DRAWER = "stable_diffusion_from_scratch"
CROSS_TESTS, LATENT_TESTS = "test_sd_model.py", "test_sd_vae.py"
PROMPT_TESTS, SAMPLER_TESTS = "test_sd_text.py", "test_sd_schedulers.py"
PIXEL_TESTS = "test_sd_pipeline.py"
ASKED_TESTS, SHEET_TESTS = "test_sd_inference.py", "test_sd_pictures.py"
SCENE_TESTS, STAGE_TESTS = "test_sd_data.py", "test_sd_train.py"
TABLE_OF_PROMPTS, SHARED_TESTS = "test_sd_evaluate.py", "test_sd_refusals.py"

PAINTER = "diffusion_from_scratch"
STEP_TESTS, UNET_TESTS = "test_diffusion_samplers.py", "test_diffusion_model.py"
BETA_TESTS, NOISE_TESTS = "test_diffusion_schedule.py", "test_diffusion_train.py"
RANK_TESTS, GUIDED_TESTS = "test_diffusion_refusals.py", "test_diffusion_inference.py"
JUDGE_TESTS, MIXED_TESTS = "test_diffusion_evaluate.py", "test_diffusion_data.py"

MUTANTS = [
    # stable diffusion: the three models
    Mutant(f"{DRAWER}/model.py", "[angles.cos(), angles.sin()]", "[angles.sin(), angles.cos()]",
           CROSS_TESTS),
    Mutant(f"{DRAWER}/model.py", "nn.GroupNorm(groups, channels), nn.SiLU()",
           "nn.GroupNorm(groups, channels, eps=1e-6), nn.SiLU()", CROSS_TESTS),
    Mutant(f"{DRAWER}/model.py", "torch.cat([x, kept.pop()], dim=1)",
           "torch.cat([kept.pop(), x], dim=1)", CROSS_TESTS),
    Mutant(f"{DRAWER}/attention.py", "value, gate = self", "gate, value = self", CROSS_TESTS),
    Mutant(f"{DRAWER}/vae_model.py", "F.pad(x, (0, 1, 0, 1))", "F.pad(x, (1, 0, 1, 0))",
           LATENT_TESTS),
    Mutant(f"{DRAWER}/vae_model.py", "EPSILON = 1e-6", "EPSILON = 1e-5", LATENT_TESTS),
    Mutant(f"{DRAWER}/model.py", "latents / self.scale_factor", "latents", LATENT_TESTS),
    Mutant(f"{DRAWER}/text_encoder.py", ", causal=True)", ")", PROMPT_TESTS),
    # stable diffusion: tokens, samplers, pictures, files
    Mutant(f"{DRAWER}/tokenizer.py", "row + [self.end] *", "row + [0] *", PROMPT_TESTS),
    Mutant(f"{DRAWER}/schedulers.py", "gap * step + offset", "gap * step", SAMPLER_TESTS),
    Mutant(f"{DRAWER}/schedulers.py", "there.noise * there.sigma / here.sigma",
           "there.noise * there.noise / here.noise", SAMPLER_TESTS),
    Mutant(f"{DRAWER}/schedulers.py", "x, noise = self.first,", "noise =", SAMPLER_TESTS),
    Mutant(f"{DRAWER}/pipeline.py", "without + guidance * (given - without)",
           "given + guidance * (given - without)", PIXEL_TESTS),
    Mutant(f"{DRAWER}/pipeline.py", "known = start if last else", "known =", PIXEL_TESTS),
    Mutant(f"{DRAWER}/pipeline.py", "* 255).round()", "* 255)", PIXEL_TESTS),
    Mutant(f"{DRAWER}/layouts.py", "2 if level in looks else 1", "2", CROSS_TESTS),
    # stable diffusion: asking a trained model, and looking at it
    Mutant(f"{DRAWER}/painter.py", "tokenizer.length = known[\"positions\"]", "pass",
           ASKED_TESTS),
    Mutant(f"{DRAWER}/looking.py", "start=1", "start=0", SHEET_TESTS),
    # stable diffusion: scenes and words, both stages, the table
    Mutant(f"{DRAWER}/scenes.py", "if pair not in HELD_OUT", "if pair", SCENE_TESTS),
    Mutant(f"{DRAWER}/scenes.py", "(2 * u - y - radius) / 5**0.5", "(2 * u - y - radius) / 2",
           SCENE_TESTS),
    Mutant(f"{DRAWER}/adherence.py", "if common.max() > alike:", "if True:", SCENE_TESTS),
    Mutant(f"{DRAWER}/batches.py", "known.mean[picked] + known.deviation[picked] * fresh",
           "known.mean[picked] + known.deviation[picked] * noise", STAGE_TESTS),
    Mutant(f"{DRAWER}/losses.py", "(gamma / ratio).clamp(max=1)",
           "(ratio / gamma).clamp(max=1)", STAGE_TESTS),
    Mutant(f"{DRAWER}/losses.py", "found.kl() / x[0].numel()", "found.kl()", STAGE_TESTS),
    Mutant(f"{DRAWER}/run.py", "        else:\n            self.best = None\n", "",
           STAGE_TESTS),
    Mutant(f"{DRAWER}/run.py", "(self.step - args.vae_steps, args.steps - args.vae_steps,",
           "(self.step, args.steps,", STAGE_TESTS),
    Mutant(f"{DRAWER}/train.py", "losses.sum() * distributed.ranks() / args.batch_size",
           "losses.mean()", SHARED_TESTS),
    Mutant(f"{DRAWER}/measures.py", "own[tokenizer.encode(text).index(word) + 1]",
           "own[tokenizer.encode(text).index(word)]", TABLE_OF_PROMPTS),
    # stable diffusion: what a review found untested
    Mutant(f"{DRAWER}/pipeline.py", "clean(before, noise,", "clean(x, noise,",
           PIXEL_TESTS),
    # diffusion: what a review found untested
    Mutant(f"{PAINTER}/diffusion.py", "noise = gaussian(x, generator) if i else",
           "noise = torch.zeros_like(x) if i else", GUIDED_TESTS),
    Mutant(f"{PAINTER}/painter.py", "manual_seed((seed + 1) * SEEDS + place)",
           "manual_seed(seed)", GUIDED_TESTS),
    Mutant(f"{PAINTER}/asking.py", 'args.variance or "posterior"', '"posterior"', GUIDED_TESTS),
    Mutant(f"{PAINTER}/mixing.py", "round(strength * len(s)) - 1", "round(strength * len(s))",
           GUIDED_TESTS),
    Mutant(f"{PAINTER}/run.py", "self.average.update(self.model, self.step - 1)",
           "self.average.update(self.model, self.step)", NOISE_TESTS),
    Mutant(f"{PAINTER}/train.py", "optimization.clip(list(run.model.parameters()), args.clip)",
           "pass", NOISE_TESTS),
    Mutant(f"{PAINTER}/optimization.py", "if p.ndim <= 1]", "if p.ndim < 1]", NOISE_TESTS),
    # diffusion: schedules, steps, and the network
    Mutant(f"{PAINTER}/schedule.py", "torch.arange(1, steps + 1) * len(self) // steps - 1",
           "torch.arange(steps) * len(self) // steps", BETA_TESTS),
    Mutant(f"{PAINTER}/schedule.py", "keep((1 - exact).sqrt())", "(1 - keep(exact)).sqrt()",
           BETA_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "spread[i].sqrt() * fresh if i else mean",
           "spread[i].sqrt() * fresh", STEP_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "* noise - at(s.noise, t, x0) * x0",
           "* noise + at(s.noise, t, x0) * x0", STEP_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "(1 - s.before[i] - spread)", "(1 - s.before[i])",
           STEP_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "\"v\": snr + 1}", "\"v\": snr}", STEP_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "            x0 = x0.clamp(-1, 1)\n",
           "            x0.clamp(-1, 1)\n", STEP_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "(1 + guidance) * known - guidance",
           "guidance * known + (1 - guidance)", GUIDED_TESTS),
    Mutant(f"{PAINTER}/diffusion.py", "torch.where(mask > 0, there, x)",
           "torch.where(mask > 0, x, there)", GUIDED_TESTS),
    Mutant(f"{PAINTER}/model.py", "(width % 2, 1, height % 2, 1)", "(1, 1, 1, 1)",
           UNET_TESTS),
    Mutant(f"{PAINTER}/model.py", "self.conv2 = quiet(nn.Conv2d(after, after, 3, padding=1))",
           "self.conv2 = nn.Conv2d(after, after, 3, padding=1)", UNET_TESTS),
    Mutant(f"{PAINTER}/model.py", "min(MOST_GROUPS, channels // LEAST_CHANNELS)",
           "MOST_GROUPS", UNET_TESTS),
    Mutant(f"{PAINTER}/model.py", "/ max(half - 1, 1)", "/ half", UNET_TESTS),
    # diffusion: training, painting, measuring
    Mutant(f"{PAINTER}/ema.py", "1 - decay_at(step, self.decay)", "1 - self.decay",
           NOISE_TESTS),
    Mutant(f"{PAINTER}/batches.py", "masked_fill(without, classes)", "masked_fill(without, 0)",
           NOISE_TESTS),
    Mutant(f"{PAINTER}/batches.py", "(seed + 1) * SEEDS**2 + step)", "(seed + 1) * SEEDS**2)",
           NOISE_TESTS),
    Mutant(f"{PAINTER}/run.py",
           "            checkpoint.restore(self.average.model, saved[\"ema\"], path)\n", "",
           NOISE_TESTS),
    Mutant(f"{PAINTER}/train.py", "losses.sum() * ranks / args.batch_size", "losses.mean()",
           RANK_TESTS),
    Mutant(f"{PAINTER}/painter.py", "weights = contents[\"model\"] if last else",
           "weights = contents[\"model\"] if not last else", GUIDED_TESTS),
    Mutant(f"{PAINTER}/measures.py", "kthvalue(NEIGHBOURS + 1)", "kthvalue(NEIGHBOURS)",
           JUDGE_TESTS),
    Mutant(f"{PAINTER}/measures.py", "cov_b.trace() - 2 * cross", "cov_b.trace() - cross",
           JUDGE_TESTS),
    Mutant(f"{PAINTER}/judge.py", "!= HASH:", "== \"\":", JUDGE_TESTS),
    Mutant(f"{PAINTER}/reading.py", "Image.alpha_composite(white, image.convert(\"RGBA\"))",
           "image", MIXED_TESTS),
    # vae: the bound, its networks, and log p(x)
    Mutant(f"{CODER}/distributions.py", "mean**2 + logvar.exp() - 1 - logvar",
           "mean**2 + logvar.exp() - 1 + logvar", BOUND_TESTS),
    Mutant(f"{CODER}/distributions.py", "return cost.flatten(1).sum(1)",
           "return cost.flatten(1).mean(1)", BOUND_TESTS),
    Mutant(f"{CODER}/distributions.py", "self.kl.mean(0).clamp(min=free)  ",
           "self.kl.clamp(min=free).mean(0)  ", BOUND_TESTS),
    Mutant(f"{CODER}/distributions.py", "LIMIT * torch.tanh(logvar / LIMIT)",
           "logvar.clamp(-LIMIT, LIMIT)", BOUND_TESTS),
    Mutant(f"{CODER}/model.py", "return mean + (0.5 * logvar).exp() * noise",
           "return mean + logvar.exp() * noise", BOUND_TESTS),
    Mutant(f"{CODER}/model.py", "layer.weight[0, 0].numel() / math.prod(layer.stride)",
           "layer.weight[0, 0].numel()", BOUND_TESTS),
    Mutant(f"{CODER}/model.py", "weight = log_normal(z, 0.0, 0.0) - log_normal(z, m, v)",
           "weight = log_normal(z, m, v) - log_normal(z, 0.0, 0.0)", INTEGRAL_TESTS),
    # vae: pictures, training, and what is asked of it
    Mutant(f"{CODER}/reading.py",
           "Image.alpha_composite(Image.new(\"RGBA\", image.size, \"white\"), image)", "image",
           SPRITE_TESTS),
    Mutant(f"{CODER}/data.py",
           "list({picture.numpy().tobytes(): picture for picture in good}.values())", "good",
           SPRITE_TESTS),
    Mutant(f"{CODER}/creatures.py", "every[validation : validation + test]", "every[:test]",
           CREATURE_TESTS),
    Mutant(f"{CODER}/optimization.py", "highest * min(1.0, step", "min(1.0, step", PRICE_TESTS),
    Mutant(f"{CODER}/train.py", "cost = found.reconstruction + args.beta * paid",
           "cost = found.reconstruction", PRICE_TESTS),
    Mutant(f"{CODER}/train.py", "seed = self.args.seed * SEEDS + self.step",
           "seed = self.args.seed * SEEDS", PRICE_TESTS),
    Mutant(f"{CODER}/attributes.py", "z + means[new] - means[old]", "z + means[new]",
           WINGS_TESTS),
    Mutant(f"{CODER}/measures.py", "means.var(0, unbiased=False)", "means.std(0)", WINGS_TESTS),
    Mutant(f"{CODER}/judge.py", "torch.minimum(apart, 1 - apart)", "apart", WINGS_TESTS),
    Mutant(f"{CODER}/collapse.py", "kernel // 2 + int(sees_itself)", "kernel // 2 + 1",
           WINGS_TESTS),
    # gpt2: the network, its cache and its weights
    Mutant(f"{WRITER}/model.py", " / math.sqrt(q.size(-1))", "", GPT_TESTS),
    Mutant(f"{WRITER}/model.py", "std=0.02 / math.sqrt(2 * len(self.blocks))", "std=0.02",
           GPT_TESTS),
    Mutant(f"{WRITER}/norm.py", "x.addcmul_(y, (stretch @ weight / -count)[..., None])",
           "pass", GPT_TESTS),
    Mutant(f"{WRITER}/cache.py", "query = key[total - new :, None]", "query = key[:new, None]",
           CACHE_TESTS),
    Mutant(f"{WRITER}/weights.py", r'r"(attend|think)\.\w+\.weight"',
           r'r"(attend\.project|think\.\w+)\.weight"', LOADER_TESTS),    # one is square
    # gpt2: tokens, and how they are drawn and counted
    Mutant(f"{WRITER}/tokenizer.py", "for place in (before[left], left):",
           "for place in (left,):", MERGE_TESTS),
    Mutant(f"{WRITER}/tokenizer.py", "if allow_special and self.special:", "if self.special:",
           MERGE_TESTS),
    Mutant(f"{WRITER}/chunks.py", "[{SPACE}]+(?![^{SPACE}])|", "", MERGE_TESTS),
    Mutant(f"{WRITER}/generate.py", "before < sampling.top_p",
           "before + shares < sampling.top_p", WRITING_TESTS),
    Mutant(f"{WRITER}/ngrams.py", "(count[gram[seen:]] + d * share)",
           "(count[gram[seen:]] + share)", "test_gpt2_ngrams.py"),
    # gpt2: training
    Mutant(f"{WRITER}/optimization.py", "return floor + (1 - floor) * ", "return ",
           COSINE_TESTS),
    Mutant(f"{WRITER}/train.py", " / run.tokens_a_step", " / targets.numel()", COSINE_TESTS),
    # transformer: the network
    Mutant(f"{ENCODER}/model.py", " / math.sqrt(q.size(-1))", "", BLOCK_TESTS),
    Mutant(f"{ENCODER}/model.py", "weights = weights.masked_fill(~keep, 0)", "pass",
           BLOCK_TESTS),
    Mutant(f"{ENCODER}/model.py", "return F.dropout(weights, dropout) @ v, weights",
           "weights = F.dropout(weights, dropout)\n    return weights @ v, weights",
           BLOCK_TESTS),
    Mutant(f"{ENCODER}/norm.py", "(y * y).sum(-1, keepdim=True) * share",
           "(y * y).sum(-1, keepdim=True) / (x.size(-1) - 1)", BLOCK_TESTS),
    Mutant(f"{ENCODER}/norm.py", "x.addcmul_(y, (stretch @ weight / -count)[..., None])",
           "pass", BLOCK_TESTS),
    Mutant(f"{ENCODER}/model.py", "torch.stack([angle.sin(), angle.cos()]",
           "torch.stack([angle.cos(), angle.sin()]", BLOCK_TESTS),
    Mutant(f"{ENCODER}/model.py", "return self.norm2(x + self.drop(self.think(x)))",
           "return self.norm1(x + self.drop(self.think(x)))", BLOCK_TESTS),
    Mutant(f"{ENCODER}/model.py", "(x * real).sum(1) / count", "x.mean(1)", BLOCK_TESTS),
    Mutant(f"{ENCODER}/model.py", "self.embed(tokens) * self.scale", "self.embed(tokens)",
           BLOCK_TESTS),
    # transformer: texts
    Mutant(f"{ENCODER}/tokenizer.py", "UNKNOWN_TOKEN) for word in split(text)",
           "UNKNOWN_TOKEN) for word in text.lower().split()", TEXT_TESTS),
    Mutant(f"{ENCODER}/generate_test_texts.py", "list(zip(pair, ordered(pair, part, rng)))",
           "list(zip(pair[::-1], ordered(pair, part, rng)))", TEXT_TESTS),
    Mutant(f"{ENCODER}/words.py", "points to the {b} without haste",
           "points to some {b} without haste", TEXT_TESTS),
    Mutant(f"{ENCODER}/data.py", "stratify=[label for label, _ in rows]", "stratify=None",
           TABLE_TESTS),
    Mutant(f"{ENCODER}/batches.py", "hidden & (tokens != PAD_TOKEN)", "hidden", TABLE_TESTS),
    Mutant(f"{ENCODER}/measures.py", "truth * classes + answers", "answers * classes + truth",
           TABLE_TESTS),
    # transformer: training and answers
    Mutant(f"{ENCODER}/optimization.py", "(warm_up / step) ** 0.5", "warm_up / step",
           WARMUP_TESTS),
    Mutant(f"{ENCODER}/train.py", "run.step, run.batch = run.step + 1, run.batch + 1",
           "run.step += 1", WARMUP_TESTS),
    Mutant(f"{ENCODER}/train.py", "logits = logits[order.argsort()].float()",
           "logits = logits.float()", READING_TESTS),
    Mutant(f"{ENCODER}/reader.py", "numbers[:i] + numbers[i + 1 :]",
           "numbers[: i + 1] + numbers[i + 2 :]", READING_TESTS),
    # alexnet: the network
    Mutant(PLAN, "self.k + self.alpha * sums", "self.k + self.alpha / self.n * sums",
           PLAN_TESTS),
    Mutant(PLAN, "return x * (1 - self.p) ", "return x ", PLAN_TESTS),
    Mutant(PLAN, "-(-extent // self.stride)", "extent // self.stride", PLAN_TESTS),
    Mutant(PLAN, "(0, missing, 0, missing)", "(missing, 0, missing, 0)", PLAN_TESTS),
    Mutant(PLAN, "padding=1)   # sees both groups", "padding=1, groups=groups)", PLAN_TESTS),
    Mutant(PLAN, "\"conv5\", \"fc6\", \"fc7\")\n", "\"fc6\", \"fc7\")\n", PLAN_TESTS),
    # alexnet: what it is given, how it steps and answers
    Mutant(CROPS, "variances.clamp(min=0).sqrt()", "variances.clamp(min=0)", CROP_TESTS),
    Mutant(CROPS, "torch.where(draws.flip[:, None], along.flip(0), along)", "along",
           CROP_TESTS),
    Mutant(CROPS, "randint(room + 1,", "randint(max(room, 1),", CROP_TESTS),
    Mutant(CROPS, "torch.cat([five, five.flip(-1)])", "torch.cat([five, five.flip(-2)])",
           CROP_TESTS),
    Mutant(f"{ALEXNET}/evaluation.py", "torch.stack(beliefs).mean(0) ",
           "torch.stack(beliefs).log().mean(0).softmax(1) ", CROP_TESTS),
    Mutant(f"{ALEXNET}/optimization.py", "biases[\"weight_decay\"] = BIAS_RATE * rate, 0.0",
           "biases[\"weight_decay\"] = BIAS_RATE * rate, weight_decay", CROP_TESTS),
    Mutant(f"{ALEXNET}/batches.py", ".split(size)[done:]", ".split(size)", CROP_TESTS),
    Mutant(f"{ALEXNET}/published.py", "weights_only=True", "weights_only=False", WEIGHT_TESTS),
    Mutant(f"{ALEXNET}/reading.py", "upright = ImageOps.exif_transpose(image)",
           "upright = image", SET_TESTS),
    Mutant(f"{ALEXNET}/data.py", "stratify=labels, random_state=seed,",
           "stratify=labels, random_state=0,", SET_TESTS),
    Mutant(f"{ALEXNET}/data.py", "*_split(train, _tenth(train), seed), others[0])",
           "train, others[0], others[0])", SET_TESTS),
    Mutant(f"{ALEXNET}/parts.py", "return images, self.labels[chosen[good]]",
           "return images, self.labels[chosen][: len(good)]", SET_TESTS),
    Mutant(f"{ALEXNET}/visualize.py", "topk(NEAREST, largest=False)", "topk(NEAREST)",
           ANSWER_TESTS),
    Mutant(f"{ALEXNET}/optimization.py", "BIAS_RATE = 2 ", "BIAS_RATE = 1 ", SGD_TESTS),
    Mutant(f"{ALEXNET}/train.py", "            self.last_drop = self.epoch\n", "", SGD_TESTS),
    Mutant(f"{ALEXNET}/train.py", "self.loss_sum / count", "self.loss_sum", SGD_TESTS),
    # alexnet: several processes
    Mutant(f"{ALEXNET}/train.py", "summed * ranks / count", "summed / count", RANKS_TESTS),
    Mutant(f"{ALEXNET}/train.py", "max(self.seen, 1)", "len(data.train.labels)", RANKS_TESTS),
    Mutant(f"{ALEXNET}/batches.py", ".share(rank, ranks, len(images))",
           ".share(0, ranks, len(images))", RANKS_TESTS),
    Mutant(f"{ALEXNET}/evaluation.py", "[distributed.rank() :: distributed.ranks()]",
           "[:: distributed.ranks()]", RANKS_TESTS),
    # backprop: layers and losses
    Mutant(LAYERS, "grad @ self.parameters[\"weight\"].T",
           "grad @ self.parameters[\"weight\"].reshape(grad.shape[1], -1)", LAYER_TESTS),
    Mutant(LAYERS, "\"bias\": grad.sum(axis=0)}", "\"bias\": grad.mean(axis=0)}",
           LAYER_TESTS),
    Mutant(LAYERS, "self.positive = x > 0 ", "self.positive = x >= 0 ", LAYER_TESTS),
    Mutant(LAYERS, "inputs, outputs: 2 / inputs", "inputs, outputs: 2 / outputs", LAYER_TESTS),
    Mutant(LAYERS, "grad * (self.y * (1 - self.y))", "grad * self.y", LAYER_TESTS),
    Mutant(LAYERS, "return self.p * (grad - common)",
           "return self.p * (1 - self.p) * grad", LAYER_TESTS),
    Mutant(LAYERS, "kept / x.dtype.type(1 - self.share)", "kept.astype(x.dtype)", LAYER_TESTS),
    Mutant(LOSSES, "e = exp(z - z.max(axis=1, keepdims=True))", "e = np.exp(z)", LAYER_TESTS),
    Mutant(LOSSES, "return grad / len(grad) ", "return grad ", LAYER_TESTS),
    Mutant(LOSSES, "return 2 * self.difference / self.difference.size",
           "return 2 * self.difference / len(self.difference)", LAYER_TESTS),
    Mutant(LOSSES, "if outputs.shape != targets.shape:", "if len(outputs) != len(targets):",
           LAYER_TESTS),
    # backprop: optimizers
    Mutant(OPTIMIZERS, "self.lr * (g + self.momentum * velocity)",
           "self.lr * (1 + self.momentum) * velocity", OPTIMIZER_TESTS),
    Mutant(OPTIMIZERS, "(1 - fading**self.steps)", "(1 - fading)", OPTIMIZER_TESTS),
    Mutant(OPTIMIZERS, "self.epsilon / root", "self.epsilon", OPTIMIZER_TESTS),
    Mutant(OPTIMIZERS, "w *= 1 - self.lr * self.l2 ", "w *= 1 - self.l2 ", OPTIMIZER_TESTS),
    Mutant(OPTIMIZERS, "if self.l2 and w.ndim > 1:", "if self.l2:", OPTIMIZER_TESTS),
    # backprop: proofs
    Mutant(CHECK, "for batch in (-1 - x, x):", "for batch in (x,):", CHECK_TESTS),
    Mutant(CHECK, "return np.nan if near else slope", "return slope", CHECK_TESTS),
    Mutant(CHECK, "return right and not self.changed", "return right", CHECK_TESTS),
    Mutant(CHECK, "/ (12 * h) ", "/ (10 * h) ", CHECK_TESTS),
    Mutant(AUTOGRAD, "parent.grad += slope * value.grad", "parent.grad = slope * value.grad",
           AUTOGRAD_TESTS),
    Mutant(AUTOGRAD, "elif id(value) not in seen:", "elif True:", AUTOGRAD_TESTS),
    Mutant(CHECK, "adam.l2, adam.steps, g, error = 0.0, 0, 0.5, 0.0",
           "adam.l2, g, error = 0.0, 0.5, 0.0", CHECK_TESTS),
    Mutant(AUTOGRAD, "for value in reversed(order):", "for value in order:", AUTOGRAD_TESTS),
    # backprop: the training, its files and its data
    Mutant(BACKPROP_TRAIN, "            self.rng.bit_generator.state = saved[\"rng\"]\n", "",
           RUN_TESTS),
    Mutant(BACKPROP_TRAIN, "            self.optimizer.steps = self.step\n", "", RUN_TESTS),
    Mutant(BACKPROP_TRAIN, "score >= self.best:", "score > self.best:", RUN_TESTS),
    Mutant(BACKPROP_TRAIN, "standardised(data.test, run.config)",
           "standardised(data.validation, run.config)", RUN_TESTS),
    Mutant(BACKPROP_TRAIN, "    network.train(False)\n", "", RUN_TESTS),
    Mutant(BACKPROP_TRAIN, "        check_finite(loss, {}, self.step, rate)\n", "", RUN_TESTS),
    Mutant(BACKPROP_TRAIN, "                return run.save(\"checkpoint.npz\")\n",
           "                return None\n", RUN_TESTS),
    Mutant(BACKPROP_CHECKPOINT, "key=lambda path: path.stat().st_mtime", "key=str", FILE_TESTS),
    Mutant(BACKPROP_CHECKPOINT, "sealed != digest(arrays, text)", "len(sealed) != 64",
           FILE_TESTS),
    Mutant(BACKPROP_CHECKPOINT, "np.load(path, allow_pickle=False)",
           "np.load(path, allow_pickle=True)", FILE_TESTS),
    Mutant(BACKPROP_CHECKPOINT, "        partial.unlink(missing_ok=True)\n", "", FILE_TESTS),
    Mutant(BACKPROP_DATA, "order[VALIDATION:], order[:VALIDATION]", "order, order[:VALIDATION]",
           SAMPLE_TESTS),
    Mutant(BACKPROP_DATA, "stratify=labels[indices], ", "", SAMPLE_TESTS),
    Mutant(SCALING, "    x, y = data.train\n",
           "    x, y = (np.concatenate(both) for both in zip(*data[3:]))\n", SAMPLE_TESTS),
    Mutant(f"{BACKPROP}/inference.py", "outputs * config[\"target_std\"] +", "outputs +",
           SAMPLE_TESTS),
    # backprop: demonstrations
    Mutant(f"{BACKPROP}/by_hand.py", "∂z1 = ∂h1·h1·(1 - h1)", "∂z1 = ∂h1·h1·(1 - h2)",
           DEMO_TESTS),
    Mutant(LANDSCAPE, "d * (wanted / length)", "d", PICTURE_TESTS),
    Mutant(LANDSCAPE, "b * second[name]", "b * first[name]", PICTURE_TESTS),
    # the networks
    Mutant(MODEL, "0125 0134 1245", "0125 0135 1245", MODEL_TESTS),
    Mutant(MODEL, "torch.tanh(2 / 3 * a)", "torch.tanh(3 / 2 * a)", MODEL_TESTS),
    Mutant(MODEL, "4 * F.avg_pool2d(x, 2)", "F.avg_pool2d(x, 2)", MODEL_TESTS),
    Mutant(MODEL, "        return -y\n", "        return y\n", MODEL_TESTS),
    Mutant(MODEL, ".square().sum(2)", ".abs().sum(2)", MODEL_TESTS),
    Mutant(MODEL, "with_rubbish(logits, j).logsumexp(1)", "logits.logsumexp(1)", MODEL_TESTS),
    Mutant(MODEL, "F.cross_entropy(logits, labels)",
           "F.cross_entropy(logits.softmax(1), labels)", MODEL_TESTS),
    Mutant(MODEL, "logits.softmax(1)  ", "logits.softmax(0)  ", MODEL_TESTS),
    Mutant(MODEL, "value=WHITE", "value=0.0", MODEL_TESTS),
    Mutant(MODEL, "uniform_(-2.4 / fan_in, 2.4 / fan_in)",
           "uniform_(-2.4 / fan_in**0.5, 2.4 / fan_in**0.5)", MODEL_TESTS),
    Mutant(MODEL, "1.0 if p == \"#\" else -1.0", "1.0 if p == \"#\" else 0.0", MODEL_TESTS),
    # the training
    Mutant(TRAIN, "            optimizer.zero_grad(set_to_none=True)\n", "", TRAIN_TESTS),
    Mutant(TRAIN, "seed * 1_000_003 + epoch", "seed * 1_000_003", TRAIN_TESTS),
    Mutant(TRAIN, "MOMENTUM = 0.9", "MOMENTUM = 0.5", TRAIN_TESTS),
    Mutant(TRAIN, "(error, loss) < self.best", "(error, loss) > self.best", TRAIN_TESTS),
    Mutant(TRAIN, "\"batch\", \"loss_sum\", \"best\"", "\"batch\", \"best\"", TRAIN_TESTS),
    Mutant(TRAIN, "            self.optimizer.load_state_dict(saved[\"optimizer\"])\n", "",
           TRAIN_TESTS),
    Mutant(TRAIN, "    report(run, data)\n",
           "    report(run, data._replace(test=data.validation))\n", TRAIN_TESTS),
    Mutant(f"{LENET}/devices.py", "if not torch.isfinite(total):", "if torch.isnan(loss):",
           TRAIN_TESTS),
    Mutant(f"{LENET}/console.py", "128 + number", "1", TRAIN_TESTS),
    # the checkpoints
    Mutant(CHECKPOINT, "contents.pop(\"digest\") == digest(contents)",
           "contents.pop(\"digest\") is not None", CHECKPOINT_TESTS),
    Mutant(CHECKPOINT, "path.with_name(path.name + \".partial\")\n    try:", "path\n    try:",
           CHECKPOINT_TESTS),
    Mutant(CHECKPOINT, "weights_only=True", "weights_only=False", CHECKPOINT_TESTS),
    # the pictures
    Mutant(PREPARE, "FIELD / 2 - mean + 0.5", "FIELD / 2 - mean", PREPARE_TESTS),
    Mutant(PREPARE, "ImageOps.exif_transpose(image)", "image", PREPARE_TESTS),
    Mutant(PREPARE, "image.size, \"white\"", "image.size, \"black\"", PREPARE_TESTS),
    Mutant(PREPARE, "        darker = -darker  ", "        darker = darker  ", PREPARE_TESTS),
    # the data
    Mutant(f"{LENET}/data.py", "if len(classes) < 2", "if len(classes) < 1", DATA_TESTS),
    Mutant(f"{LENET}/download.py", "!= sha256:", "== \"\":", DATA_TESTS),
    # lenet5: the network and its training
    Mutant(NETWORK, "by_channel.var(1, correction=0)", "by_channel.var(1)", NETWORK_TESTS),
    Mutant(NETWORK, "gain = 1 if layer is self.fc3 else 2", "gain = 2", NETWORK_TESTS),
    Mutant(NETWORK, "self.dropout(self.activation(self.norm3(self.fc1(x))))",
           "self.activation(self.norm3(self.fc1(x)))", NETWORK_TESTS),
    Mutant(NETWORK, "label_smoothing=smoothing", "label_smoothing=0.0", NETWORK_TESTS),
    Mutant(AUGMENT, "much = strength * torch.rand(size,", "much = strength * torch.rand(1,",
           AUGMENT_TESTS),
    Mutant(AUGMENT, "torch.stack([cos, -sin, sin, cos]", "torch.stack([cos, sin, -sin, cos]",
           AUGMENT_TESTS),
    Mutant(AUGMENT, "places @ (turn @ stretch).transpose(1, 2)", "places @ (turn @ stretch)",
           AUGMENT_TESTS),
    Mutant(OPTIMIZATION, "if p.ndim > 1],", "if p.ndim > 0],", LOOP_TESTS),
    Mutant(OPTIMIZATION, "between(1 / 25, 1,", "between(1 / 10, 1,", LOOP_TESTS),
    Mutant(LOOP, "args.seed * 1_000_003 + run.step)", "args.seed * 1_000_003 + run.epoch)",
           LOOP_TESTS),
    Mutant(LOOP, "            checkpoint.set_rng_state(saved[\"rng\"])\n", "", LOOP_TESTS),
    Mutant(TUNE, "default_rng((seed, trial))", "default_rng(seed + trial)", TUNE_TESTS),
    Mutant(TUNE, "    data = data._replace(test=Part(data.test.images[:0], "
                 "data.test.labels[:0]))\n", "", TUNE_TESTS),
    # lenet5: reading, doubting, explaining
    Mutant(SEGMENT, "[:, low:high].sum(0).argmin()", "[:, low:high].sum(0).argmax()",
           READER_TESTS),
    Mutant(f"{LENET5}/reader.py", "(seen < self.detector[\"threshold\"]).sum()",
           "(seen > self.detector[\"threshold\"]).sum()", READER_TESTS),
    Mutant(DETECTOR, "digits.quantile(REFUSED)", "digits.quantile(1 - REFUSED)",
           DETECTOR_TESTS),
    Mutant(DETECTOR, "torch.stack(beliefs).mean(0)", "torch.stack(beliefs).amax(0)",
           DETECTOR_TESTS),
    Mutant(f"{LENET5}/measures.py", ".ceil().long().clamp(1, bins) - 1",
           ".long().clamp(0, bins - 1)", DETECTOR_TESTS),
    Mutant(EXPLAIN, "torch.where(covered, paper, image)", "torch.where(covered, 0.0, image)",
           EXPLAIN_TESTS),
    Mutant(EXPLAIN, "heat = F.relu((weight * maps.detach()).sum(1, keepdim=True))",
           "heat = (weight * maps.detach()).sum(1, keepdim=True)", EXPLAIN_TESTS),
    Mutant(EXPLAIN, "copy.deepcopy(model), torch.Generator()", "model, torch.Generator()",
           EXPLAIN_TESTS),
    Mutant(f"{LENET5}/strokes.py", "(before - 2.5 * a + 2 * b - after / 2)",
           "(before - 2.5 * a + 2 * b + after / 2)", DRAWING_TESTS),
]

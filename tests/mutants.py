"""Small wrong edits, each a mistake that somebody has made; the suite must catch every one.

A mutant says in a sentence what is wrong, names a file, the right text in it and the wrong
text to put there, and the test that has to notice. `test_mutants.py` applies them one at a
time to a copy of the tree. Twelve a folder, the mathematics first.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One wrong edit and the test that must fail because of it."""

    mistake: str    # what the edit does to the reader's system
    file: str
    right: str      # stands in the file exactly once
    wrong: str
    tests: str      # "test_file.py::test_function"


LENET, BACKPROP, LENET5 = "lenet_from_scratch", "backprop_from_scratch", "lenet5_from_scratch"
ALEXNET, TRANSFORMER, GPT2 = (f"{name}_from_scratch" for name in
                              ("alexnet", "transformer", "gpt2"))
VAE, DIFFUSION, SD = (f"{name}_from_scratch" for name in
                      ("vae", "diffusion", "stable_diffusion"))

MUTANTS = [
    # ------------------------------------------------------------ lenet
    Mutant("The answer is the distance itself, so the digit that is least alike wins.",
           f"{LENET}/model.py", "        return -y\n", "        return y\n",
           "test_lenet_model.py::test_the_largest_logit_belongs_to_the_nearest_code"),
    Mutant("Subsampling takes the mean of four pixels, where the paper takes their sum.",
           f"{LENET}/model.py", "4 * F.avg_pool2d(x, 2)", "F.avg_pool2d(x, 2)",
           "test_lenet_model.py::test_subsample_is_the_formula_of_the_paper_written_as_loops"),
    Mutant("The loss has no rubbish class, so a drawing far from every digit costs nothing.",
           f"{LENET}/model.py", "with_rubbish(logits, j).logsumexp(1)", "logits.logsumexp(1)",
           "test_lenet_model.py::"
           "test_the_map_loss_is_the_formula_of_the_paper_written_as_loops"),
    Mutant("The loss takes the softmax of a softmax: even a sure network has a large loss.",
           f"{LENET}/model.py", "F.cross_entropy(logits, labels)",
           "F.cross_entropy(logits.softmax(1), labels)",
           "test_lenet_model.py::test_the_classic_network_has_the_gradients_of_the_reference"),
    Mutant("Weights start too large: their range falls with the root of the number of inputs.",
           f"{LENET}/model.py", "uniform_(-2.4 / fan_in, 2.4 / fan_in)",
           "uniform_(-2.4 / fan_in**0.5, 2.4 / fan_in**0.5)",
           "test_lenet_model.py::"
           "test_weights_start_uniform_in_the_whole_range_that_the_paper_gives"),
    Mutant("Gradients are never reset, so every step adds up those of all steps before it.",
           f"{LENET}/train.py", "            optimizer.zero_grad(set_to_none=True)\n", "",
           "test_lenet_train.py::test_the_optimizer_is_gradient_descent_with_momentum"),
    Mutant("The optimizer remembers half of its last step instead of nine tenths.",
           f"{LENET}/train.py", "MOMENTUM = 0.9", "MOMENTUM = 0.5",
           "test_lenet_train.py::test_the_optimizer_is_gradient_descent_with_momentum"),
    Mutant("Every epoch sees the pictures in the same order.",
           f"{LENET}/train.py", "seed * 1_000_003 + epoch", "seed * 1_000_003",
           "test_lenet_train.py::test_each_epoch_sees_every_picture_once_in_its_own_order"),
    Mutant("The test error is measured on the validation pictures, which chose the weights.",
           f"{LENET}/train.py", "    report(run, data)\n",
           "    report(run, data._replace(test=data.validation))\n",
           "test_lenet_train.py::test_the_test_pictures_are_used_once_at_the_end"),
    Mutant("A checkpoint is accepted with any digest, so changed weights go unnoticed.",
           f"{LENET}/checkpoint.py", "contents.pop(\"digest\") == digest(contents)",
           "contents.pop(\"digest\") is not None",
           "test_faults_checkpoints.py::"
           "test_no_flipped_bit_is_accepted_with_other_values[lenet_from_scratch]"),
    Mutant("A photographed digit lies half a pixel off the place where MNIST has its centre.",
           f"{LENET}/prepare.py", "FIELD / 2 - mean + 0.5", "FIELD / 2 - mean",
           "test_lenet_prepare.py::test_the_centre_of_mass_comes_to_lie_at_pixel_14_14"),
    Mutant("A download is taken for good whatever its SHA-256 is.",
           f"{LENET}/download.py", "!= sha256:", "== \"\":",
           "test_lenet_data.py::test_after_a_mirror_that_fails_the_next_is_tried"),

    # ------------------------------------------------------------ backprop
    Mutant("The gradient goes back through the weights reshaped instead of transposed.",
           f"{BACKPROP}/model.py", "grad @ self.parameters[\"weight\"].T",
           "grad @ self.parameters[\"weight\"].reshape(grad.shape[1], -1)",
           "test_backprop_model.py::"
           "test_every_gradient_of_17_random_networks_is_that_of_autograd"),
    Mutant("The slope of the softmax is only its diagonal: classes no longer compete.",
           f"{BACKPROP}/model.py", "return self.p * (grad - common)",
           "return self.p * (1 - self.p) * grad",
           "test_backprop_model.py::test_every_activation_alone_is_that_of_torch"),
    Mutant("Dropout does not enlarge what it keeps, so values are smaller in training.",
           f"{BACKPROP}/model.py", "kept / x.dtype.type(1 - self.share)",
           "kept.astype(x.dtype)",
           "test_backprop_model.py::"
           "test_dropout_silences_its_share_and_preserves_the_expected_value"),
    Mutant("The gradient is the sum over the batch: twice the batch makes twice the step.",
           f"{BACKPROP}/losses.py", "return grad / len(grad) ", "return grad ",
           "test_backprop_model.py::"
           "test_a_batch_that_comes_twice_has_the_gradients_of_one_that_comes_once"),
    Mutant("The softmax does not take the maximum away, and overflows at large logits.",
           f"{BACKPROP}/losses.py", "e = exp(z - z.max(axis=1, keepdims=True))",
           "e = np.exp(z)",
           "test_backprop_model.py::"
           "test_activations_of_huge_numbers_are_finite_and_those_of_torch"),
    Mutant("Adam corrects the bias of its means as if every step were the first.",
           f"{BACKPROP}/optimizers.py", "(1 - fading**self.steps)", "(1 - fading)",
           "test_backprop_optimizers.py::test_two_hundred_steps_are_those_of_torch"),
    Mutant("The L2 penalty pulls at biases, too.",
           f"{BACKPROP}/optimizers.py", "if self.l2 and w.ndim > 1:", "if self.l2:",
           "test_backprop_optimizers.py::test_l2_leaves_biases_alone"),
    Mutant("The gradient check divides by 10 h, so its slopes are a fifth too large.",
           f"{BACKPROP}/gradient_check.py", "/ (12 * h) ", "/ (10 * h) ",
           "test_backprop_gradient_check.py::test_a_single_layer_passes"),
    Mutant("A value that is used twice keeps the gradient of one use only.",
           f"{BACKPROP}/autograd.py", "parent.grad += slope * value.grad",
           "parent.grad = slope * value.grad",
           "test_backprop_autograd.py::test_two_to_the_fiftieth_ways_are_walked_at_once"),
    Mutant("Dropout goes on silencing units while the network is evaluated.",
           f"{BACKPROP}/train.py", "    network.train(False)\n", "",
           "test_backprop_train.py::test_a_saved_model_answers_as_it_did_in_memory"),
    Mutant("A resumed run draws other batches and masks than the run that was not stopped.",
           f"{BACKPROP}/train.py",
           "            self.rng.bit_generator.state = saved[\"rng\"]\n", "",
           "test_backprop_train.py::"
           "test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run"),
    Mutant("Inputs are scaled by mean and deviation of all parts: the test set leaks.",
           f"{BACKPROP}/scaling.py", "    x, y = data.train\n",
           "    x, y = (np.concatenate(both) for both in zip(*data[3:]))\n",
           "test_backprop_data.py::"
           "test_the_other_parts_are_measured_with_the_scale_of_the_training_part"),

    # ------------------------------------------------------------ lenet5
    Mutant("Batch normalisation divides by the unbiased deviation, for n - 1 pictures.",
           f"{LENET5}/model.py", "by_channel.var(1, correction=0)", "by_channel.var(1)",
           "test_lenet5_model.py::test_batch_normalisation_is_pytorchs_forward_and_backward"),
    Mutant("Dropout stands before the last layer only, not before both.",
           f"{LENET5}/model.py", "self.dropout(self.activation(self.norm3(self.fc1(x))))",
           "self.activation(self.norm3(self.fc1(x)))",
           "test_lenet5_model.py::"
           "test_dropout_leaves_its_share_out_before_each_of_the_last_two_layers"),
    Mutant("Label smoothing is asked for and ignored: the network shall be wholly sure.",
           f"{LENET5}/model.py", "label_smoothing=smoothing", "label_smoothing=0.0",
           "test_lenet5_model.py::"
           "test_the_loss_is_the_formula_of_label_smoothing_written_as_loops"),
    Mutant("All pictures of a batch are distorted equally strongly.",
           f"{LENET5}/augment.py", "much = strength * torch.rand(size,",
           "much = strength * torch.rand(1,",
           "test_lenet5_augment.py::"
           "test_a_picture_has_one_strength_for_all_and_some_stay_almost_as_they_were"),
    Mutant("Pictures are turned and slanted by the transposed matrix, the wrong way round.",
           f"{LENET5}/augment.py", "places @ (turn @ stretch).transpose(1, 2)",
           "places @ (turn @ stretch)",
           "test_lenet5_augment.py::test_the_slant_moves_rows_sideways_by_their_height_alone"),
    Mutant("Weight decay pulls at biases and at the scales of the normalisation, too.",
           f"{LENET5}/optimization.py", "p.ndim == 1], \"weight_decay\": 0.0}",
           "p.ndim == 1], \"weight_decay\": args.weight_decay}",
           "test_lenet5_train.py::test_only_weights_decay_and_no_parameter_is_forgotten"),
    Mutant("A resumed run draws other dropout masks than the run that was not stopped.",
           f"{LENET5}/train.py", "            checkpoint.set_rng_state(saved[\"rng\"])\n", "",
           "test_lenet5_train.py::"
           "test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run"),
    Mutant("The search for settings is given the test pictures.",
           f"{LENET5}/tune.py", "    data = data._replace(test=Part(data.test.images[:0], "
           "data.test.labels[:0]))\n", "",
           "test_lenet5_tune.py::"
           "test_a_trial_is_given_its_settings_all_its_patience_and_no_test_pictures"),
    Mutant("Touching digits are cut where there is most ink.",
           f"{LENET5}/segment.py", "[:, low:high].sum(0).argmin()",
           "[:, low:high].sum(0).argmax()",
           "test_lenet5_reader.py::"
           "test_digits_that_touch_are_cut_at_the_thinnest_place_if_the_reader_prefers_it"),
    Mutant("The detector warns of nearly all digits instead of the few most doubtful.",
           f"{LENET5}/detector.py", "digits.quantile(REFUSED)",
           "digits.quantile(1 - REFUSED)",
           "test_lenet5_detector.py::"
           "test_the_threshold_warns_of_the_promised_share_of_validation_digits"),
    Mutant("Grad-CAM also shows what speaks against the class.",
           f"{LENET5}/explain.py", "F.relu((weight * maps.detach()).sum(1, keepdim=True))",
           "(weight * maps.detach()).sum(1, keepdim=True)",
           "test_lenet5_explain.py::"
           "test_grad_cam_is_nothing_where_all_maps_speak_against_the_class"),
    Mutant("Shuffling a network for comparison shuffles the trained network itself.",
           f"{LENET5}/explain.py", "copy.deepcopy(model), torch.Generator()",
           "model, torch.Generator()",
           "test_lenet5_explain.py::test_forgetting_leaves_the_original_alone"),

    # ------------------------------------------------------------ alexnet
    Mutant("The strength of the response normalisation is divided by n, as PyTorch has it.",
           f"{ALEXNET}/model.py", "self.k + self.alpha * sums",
           "self.k + self.alpha / self.n * sums",
           "test_alexnet_model.py::"
           "test_response_normalisation_is_the_formula_forward_and_backward"),
    Mutant("After training all units speak at once, and nothing makes their sum smaller.",
           f"{ALEXNET}/model.py", "return x * (1 - self.p) ", "return x ",
           "test_alexnet_model.py::"
           "test_dropout_leaves_out_a_share_and_later_scales_to_the_average"),
    Mutant("The third layer has groups as well, so the two towers never meet.",
           f"{ALEXNET}/model.py", "padding=1)   # sees both groups",
           "padding=1, groups=groups)",
           "test_alexnet_model.py::"
           "test_the_towers_meet_in_the_third_layer_and_nowhere_before_the_end"),
    Mutant("Colours are moved along their axes by variances instead of deviations.",
           f"{ALEXNET}/augment.py", "variances.clamp(min=0).sqrt()", "variances.clamp(min=0)",
           "test_alexnet_augment.py::"
           "test_the_axes_of_colour_are_eigenvectors_as_long_as_standard_deviations"),
    Mutant("The last place where a crop could lie is never drawn.",
           f"{ALEXNET}/augment.py", "randint(room + 1,", "randint(max(room, 1),",
           "test_alexnet_augment.py::test_each_place_and_side_of_a_crop_is_equally_likely"),
    Mutant("The answer from ten crops is the geometric mean of probabilities.",
           f"{ALEXNET}/evaluation.py", "torch.stack(beliefs).mean(0) ",
           "torch.stack(beliefs).log().mean(0).softmax(1) ",
           "test_alexnet_augment.py::"
           "test_the_answer_from_ten_crops_is_the_mean_of_probabilities_not_of_logits"),
    Mutant("Biases learn at the rate of the weights instead of twice as fast.",
           f"{ALEXNET}/optimization.py", "BIAS_RATE = 2 ", "BIAS_RATE = 1 ",
           "test_alexnet_augment.py::test_weights_and_biases_follow_momentum_written_by_hand"),
    Mutant("A run resumed within an epoch sees the epoch's first pictures again.",
           f"{ALEXNET}/batches.py", ".split(size)[done:]", ".split(size)",
           "test_alexnet_augment.py::"
           "test_resumed_in_the_middle_an_epoch_goes_on_with_the_same_batches"),
    Mutant("Behind a broken file of a batch, every picture gets the label of another.",
           f"{ALEXNET}/parts.py", "return images, self.labels[chosen[good]]",
           "return images, self.labels[chosen][: len(good)]",
           "test_alexnet_data.py::test_broken_files_leave_a_batch_with_their_labels"),
    Mutant("A folder with train/ and test/ alone is validated on its test pictures.",
           f"{ALEXNET}/data.py", "*_split(train, _tenth(train), seed), others[0])",
           "train, others[0], others[0])",
           "test_alexnet_data.py::test_parts_beside_train_are_kept_apart"),
    Mutant("The patience is not renewed when the rate falls: one fall follows on the other.",
           f"{ALEXNET}/train.py", "            self.last_drop = self.epoch\n", "",
           "test_alexnet_train.py::"
           "test_the_rate_falls_three_times_after_the_patience_then_the_run_ends"),
    Mutant("Of several processes, all use the crops and the light of the first one.",
           f"{ALEXNET}/batches.py", ".share(rank, ranks, len(images))",
           ".share(0, ranks, len(images))",
           "test_alexnet_augment.py::test_several_processes_share_each_batch_of_one"),

    # ------------------------------------------------------------ transformer
    Mutant("Scores of attention grow with the width of a head, and the softmax saturates.",
           f"{TRANSFORMER}/model.py", " / math.sqrt(q.size(-1))", "",
           "test_transformer_model.py::test_attention_is_a_loop_over_queries"),
    Mutant("The norm divides by the deviation of a sample, with n - 1 channels.",
           f"{TRANSFORMER}/norm.py", "(y * y).sum(-1, keepdim=True) * share",
           "(y * y).sum(-1, keepdim=True) / (x.size(-1) - 1)",
           "test_transformer_model.py::test_layer_norm_is_pytorchs"),
    Mutant("Positions are encoded with sine and cosine exchanged.",
           f"{TRANSFORMER}/model.py", "torch.stack([angle.sin(), angle.cos()]",
           "torch.stack([angle.cos(), angle.sin()]",
           "test_transformer_model.py::test_the_encoding_is_the_papers"),
    Mutant("The first norm of a block is used twice, and the second one never learns.",
           f"{TRANSFORMER}/model.py", "return self.norm2(x + self.drop(self.think(x)))",
           "return self.norm1(x + self.drop(self.think(x)))",
           "test_transformer_model.py::test_a_block_is_pytorchs"),
    Mutant("The mean over a text counts its padding, so batch mates change the answer.",
           f"{TRANSFORMER}/model.py", "(x * real).sum(1) / count", "x.mean(1)",
           "test_transformer_model.py::test_padding_on_the_right_changes_nothing"),
    Mutant("Texts are split at blanks alone, so a word before a comma is unknown.",
           f"{TRANSFORMER}/tokenizer.py", "UNKNOWN_TOKEN) for word in split(text)",
           "UNKNOWN_TOKEN) for word in text.lower().split()",
           "test_transformer_texts.py::test_the_command_shows_each_step"),
    Mutant("Padding is hidden like words, and becomes an unknown word that is attended to.",
           f"{TRANSFORMER}/batches.py", "hidden & (tokens != PAD_TOKEN)", "hidden",
           "test_transformer_data.py::test_hiding_takes_a_share_of_the_words_and_no_padding"),
    Mutant("The table of confusions has truth and answers exchanged.",
           f"{TRANSFORMER}/measures.py", "truth * classes + answers",
           "answers * classes + truth",
           "test_transformer_data.py::test_confusion_is_counted_by_a_loop"),
    Mutant("After the warm-up the rate falls with the step, not with its root.",
           f"{TRANSFORMER}/optimization.py", "(warm_up / step) ** 0.5", "warm_up / step",
           "test_transformer_train.py::"
           "test_the_rate_is_the_papers_and_highest_after_the_warm_up"),
    Mutant("A checkpoint does not say which batches of its epoch are done.",
           f"{TRANSFORMER}/train.py", "run.step, run.batch = run.step + 1, run.batch + 1",
           "run.step += 1",
           "test_transformer_train.py::"
           "test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run"),
    Mutant("Answers stay in the order of the lengths, and meet the labels of other texts.",
           f"{TRANSFORMER}/train.py", "logits = logits[order.argsort()].float()",
           "logits = logits.float()",
           "test_transformer_inference.py::"
           "test_evaluating_is_asking_one_by_one_in_any_order_and_touches_nothing"),
    Mutant("The reasons for an answer are those of each word's right neighbour.",
           f"{TRANSFORMER}/reader.py", "numbers[:i] + numbers[i + 1 :]",
           "numbers[: i + 1] + numbers[i + 2 :]",
           "test_transformer_inference.py::"
           "test_reasons_are_the_words_without_which_the_answer_suffers_most"),

    # ------------------------------------------------------------ gpt2
    Mutant("Every token sees the whole text, the future included.",
           f"{GPT2}/model.py", "causal = keep is None and q.size(2) > 1", "causal = False",
           "test_gpt2_model.py::test_no_token_hears_of_the_future"),
    Mutant("Scores of the written attention are not divided by the root of the width.",
           f"{GPT2}/model.py", " / math.sqrt(q.size(-1))", "",
           "test_gpt2_model.py::test_attention_in_steps_is_the_fused_kernel"),
    Mutant("Blocks start as loud however many there are, and their sum grows with the depth.",
           f"{GPT2}/model.py", "std=0.02 / math.sqrt(2 * len(self.blocks))", "std=0.02",
           "test_gpt2_model.py::test_weights_start_as_openai_had_them"),
    Mutant("Behind a cache, new tokens are masked as if they were the first of the text.",
           f"{GPT2}/cache.py", "query = key[total - new :, None]", "query = key[:new, None]",
           "test_gpt2_cache.py::test_what_may_be_seen_is_what_the_words_say"),
    Mutant("The token that crosses the probability p cannot be drawn any more.",
           f"{GPT2}/generate.py", "before < sampling.top_p",
           "before + shares < sampling.top_p",
           "test_gpt2_inference.py::test_candidates_are_those_of_transformers"),
    Mutant("Negative logits are divided, too: what was there before becomes more likely.",
           f"{GPT2}/generate.py", "torch.where(logits > 0, logits / penalty, logits * penalty)",
           "logits / penalty",
           "test_gpt2_inference.py::test_what_was_there_is_penalised_as_in_transformers"),
    Mutant("A model learns to repeat what it reads, since the targets are not shifted.",
           f"{GPT2}/batches.py", "return rows[:, :-1], rows[:, 1:]",
           "return rows[:, :-1], rows[:, :-1]",
           "test_gpt2_train.py::"
           "test_windows_are_drawn_by_seed_and_step_from_every_place"),
    Mutant("Each part of a step is averaged on its own: more parts make larger steps.",
           f"{GPT2}/train.py", " / run.tokens_a_step", " / targets.numel()",
           "test_gpt2_train.py::test_a_batch_may_be_read_in_parts"),
    Mutant("The rate falls to zero instead of the floor that was asked for.",
           f"{GPT2}/optimization.py", "return floor + (1 - floor) * ", "return ",
           "test_gpt2_train.py::"
           "test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine"),
    Mutant("A resumed run begins without the moments that Adam had when it was stopped.",
           f"{GPT2}/run.py",
           "            self.optimizer.load_state_dict(saved[\"optimizer\"])\n", "",
           "test_gpt2_train.py::"
           "test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run"),
    Mutant("The one published matrix that is square is loaded without being turned.",
           f"{GPT2}/weights.py", r'r"(attend|think)\.\w+\.weight"',
           r'r"(attend\.project|think\.\w+)\.weight"',
           "test_gpt2_weights.py::test_every_spelling_gives_the_logits_of_transformers"),
    Mutant("After a merge, the pair with the token on the left is not looked at again.",
           f"{GPT2}/tokenizer.py", "for place in (before[left], left):",
           "for place in (left,):",
           "test_gpt2_tokenizer.py::test_the_heap_merges_as_the_definition_does"),

    # ------------------------------------------------------------ vae
    Mutant("The divergence has the sign of the log-variance wrong and can be negative.",
           f"{VAE}/distributions.py", "mean**2 + logvar.exp() - 1 - logvar",
           "mean**2 + logvar.exp() - 1 + logvar",
           "test_vae_model.py::"
           "test_the_kl_is_that_of_torch_distributions_and_zero_only_for_the_prior"),
    Mutant("The reconstruction is a mean over pixels, and the divergence outweighs it.",
           f"{VAE}/distributions.py", "return cost.flatten(1).sum(1)",
           "return cost.flatten(1).mean(1)",
           "test_vae_model.py::test_costs_are_sums_of_log_probabilities_over_all_pixels"),
    Mutant("Free nats are granted to each picture, not to the mean over the batch.",
           f"{VAE}/distributions.py", "self.kl.mean(0).clamp(min=free)  ",
           "self.kl.clamp(min=free).mean(0)  ",
           "test_vae_model.py::test_free_nats_are_free_in_the_mean_over_the_batch"),
    Mutant("Codes are drawn with the variance in place of the deviation.",
           f"{VAE}/model.py", "return mean + (0.5 * logvar).exp() * noise",
           "return mean + logvar.exp() * noise",
           "test_vae_model.py::"
           "test_a_draw_has_the_deviation_and_the_gradients_of_the_closed_form"),
    Mutant("The importance weights of the likelihood are turned upside down.",
           f"{VAE}/model.py", "weight = log_normal(z, 0.0, 0.0) - log_normal(z, m, v)",
           "weight = log_normal(z, m, v) - log_normal(z, 0.0, 0.0)",
           "test_vae_likelihood.py::test_the_estimate_is_the_mean_of_weights"),
    Mutant("The best weights are chosen by the reconstruction alone, without the divergence.",
           f"{VAE}/train.py", "cost = found.reconstruction + args.beta * paid",
           "cost = found.reconstruction",
           "test_vae_train.py::"
           "test_the_best_weights_are_those_of_the_lowest_objective_at_its_full_price"),
    Mutant("Binary pixels are drawn once and for all instead of anew in every step.",
           f"{VAE}/train.py", "seed = self.args.seed * SEEDS + self.step",
           "seed = self.args.seed * SEEDS",
           "test_vae_train.py::test_binary_pixels_are_drawn_anew_in_every_step"),
    Mutant("A resumed run begins without the moments that Adam had when it was stopped.",
           f"{VAE}/train.py",
           "            self.optimizer.load_state_dict(saved[\"optimizer\"])\n", "",
           "test_vae_train.py::"
           "test_a_run_cut_anywhere_and_resumed_is_the_uninterrupted_run"),
    Mutant("A picture that a folder holds twice can be trained on and tested with.",
           f"{VAE}/data.py",
           "list({picture.numpy().tobytes(): picture for picture in good}.values())", "good",
           "test_vae_data.py::"
           "test_a_folder_of_all_sizes_loses_bad_files_and_doubles_and_counts_them"),
    Mutant("Creatures of the test part stand in the validation part, too.",
           f"{VAE}/creatures.py", "every[validation : validation + test]", "every[:test]",
           "test_vae_creatures.py::"
           "test_combinations_are_split_for_good_and_every_value_is_in_each_part"),
    Mutant("A new attribute is added to a code, and the old one is not taken away.",
           f"{VAE}/attributes.py", "z + means[new] - means[old]", "z + means[new]",
           "test_vae_inference.py::"
           "test_adding_an_attribute_adds_the_difference_of_mean_codes"),
    Mutant("The decoder that overhears other pixels overhears the very pixel it draws.",
           f"{VAE}/collapse.py", "kernel // 2 + int(sees_itself)", "kernel // 2 + 1",
           "test_vae_inference.py::"
           "test_a_decoder_that_overhears_does_not_overhear_the_pixel_itself"),

    # ------------------------------------------------------------ diffusion
    Mutant("A sampler of few steps begins at the first time and leaves the last one out.",
           f"{DIFFUSION}/schedule.py", "torch.arange(1, steps + 1) * len(self) // steps - 1",
           "torch.arange(steps) * len(self) // steps",
           "test_diffusion_schedule.py::"
           "test_some_times_are_even_different_and_end_with_the_last"),
    Mutant("Noise is added at the last step, too, and every picture is grainy.",
           f"{DIFFUSION}/diffusion.py", "spread[i].sqrt() * fresh if i else mean",
           "spread[i].sqrt() * fresh",
           "test_diffusion_samplers.py::test_no_noise_is_added_at_the_last_step"),
    Mutant("DDIM keeps all of the old noise beside the new: there is too much of it.",
           f"{DIFFUSION}/diffusion.py", "(1 - s.before[i] - spread)", "(1 - s.before[i])",
           "test_diffusion_samplers.py::test_a_ddim_step_is_that_of_diffusers"),
    Mutant("The guess is cut to the range of pixels, and the result is thrown away.",
           f"{DIFFUSION}/diffusion.py", "            x0 = x0.clamp(-1, 1)\n",
           "            x0.clamp(-1, 1)\n",
           "test_diffusion_samplers.py::"
           "test_guesses_are_cut_to_the_range_of_pixels_and_the_mean_knows"),
    Mutant("Guidance of 1 means none, as in another paper, and no guidance forgets labels.",
           f"{DIFFUSION}/diffusion.py", "(1 + guidance) * known - guidance",
           "guidance * known + (1 - guidance)",
           "test_diffusion_inference.py::test_guidance_pushes_away_from_no_label"),
    Mutant("Repairing a picture redraws what was known and keeps the hole.",
           f"{DIFFUSION}/diffusion.py", "torch.where(mask > 0, there, x)",
           "torch.where(mask > 0, x, there)",
           "test_diffusion_inference.py::test_the_known_part_has_as_much_noise_as_the_rest"),
    Mutant("An untrained block already changes what passes through it.",
           f"{DIFFUSION}/model.py",
           "self.conv2 = quiet(nn.Conv2d(after, after, 3, padding=1))",
           "self.conv2 = nn.Conv2d(after, after, 3, padding=1)",
           "test_diffusion_model.py::"
           "test_an_untrained_network_says_nothing_and_its_blocks_change_nothing"),
    Mutant("The average of the weights moves slowly from the start and keeps the random ones.",
           f"{DIFFUSION}/ema.py", "1 - decay_at(step, self.decay)", "1 - self.decay",
           "test_diffusion_train.py::test_the_average_is_the_recursion_by_hand"),
    Mutant("A withheld label becomes the first class instead of no class.",
           f"{DIFFUSION}/batches.py", "masked_fill(without, classes)",
           "masked_fill(without, 0)",
           "test_diffusion_train.py::"
           "test_labels_are_withheld_as_often_as_asked_and_pictures_mirrored"),
    Mutant("Every step draws the same noise and the same times.",
           f"{DIFFUSION}/batches.py", "(seed + 1) * SEEDS**2 + step)", "(seed + 1) * SEEDS**2)",
           "test_diffusion_train.py::test_a_step_depends_on_seed_and_number_alone"),
    Mutant("The weights with the largest validation loss are kept as the best.",
           f"{DIFFUSION}/run.py", "loss < self.best", "loss > self.best",
           "test_diffusion_train.py::"
           "test_the_best_weights_are_those_of_the_lowest_validation_loss"),
    Mutant("The distance of two clouds is not zero where they are the same.",
           f"{DIFFUSION}/measures.py", "cov_b.trace() - 2 * cross", "cov_b.trace() - cross",
           "test_diffusion_evaluate.py::"
           "test_the_distance_of_two_gaussians_is_the_closed_form"),

    # ------------------------------------------------------------ stable diffusion
    Mutant("Times are encoded with sines first, as the published weights were not trained.",
           f"{SD}/model.py", "[angles.cos(), angles.sin()]", "[angles.sin(), angles.cos()]",
           "test_sd_model.py::"
           "test_times_become_cosines_then_sines_on_ever_slower_clocks"),
    Mutant("The halves of a gated layer are exchanged: what should pass is bent instead.",
           f"{SD}/attention.py", "value, gate = self", "gate, value = self",
           "test_sd_model.py::test_an_open_gate_lets_everything_through"),
    Mutant("Pictures are halved with padding on the left and above, half a pixel off.",
           f"{SD}/vae_model.py", "F.pad(x, (0, 1, 0, 1))", "F.pad(x, (1, 0, 1, 0))",
           "test_sd_vae.py::test_pictures_are_padded_at_the_right_and_below_only"),
    Mutant("Latents are scaled on their way in but not on their way out.",
           f"{SD}/model.py", "latents / self.scale_factor", "latents",
           "test_sd_vae.py::"
           "test_latents_are_scaled_on_the_way_in_and_back_on_the_way_out"),
    Mutant("The words of a prompt hear of those that follow.",
           f"{SD}/text_encoder.py", ", causal=True)", ")",
           "test_sd_text.py::"
           "test_no_token_hears_of_the_future_and_padding_hears_of_the_past"),
    Mutant("All times of the sampler lie one below the published ones.",
           f"{SD}/schedulers.py", "gap * step + offset", "gap * step",
           "test_sd_schedulers.py::test_published_times"),
    Mutant("Guidance begins at the prompt, so that each strength is one too strong.",
           f"{SD}/pipeline.py", "without + guidance * (given - without)",
           "given + guidance * (given - without)",
           "test_sd_pipeline.py::test_prompts_become_the_pixels_of_diffusers"),
    Mutant("The known part of a picture keeps its noise of the last step.",
           f"{SD}/pipeline.py", "known = start if last", "known = start if False",
           "test_sd_pipeline.py::test_what_is_not_in_the_hole_stays_to_the_bit"),
    Mutant("Pairs of colour and shape that shall be unseen are drawn to train on.",
           f"{SD}/scenes.py", "if pair not in HELD_OUT", "if pair",
           "test_sd_data.py::"
           "test_all_that_can_be_drawn_is_drawn_and_held_out_pairs_never"),
    Mutant("The latent's own noise is the very noise that the model shall find.",
           f"{SD}/batches.py", "known.mean[picked] + known.deviation[picked] * fresh",
           "known.mean[picked] + known.deviation[picked] * noise",
           "test_sd_train.py::"
           "test_latents_of_a_step_are_drawn_anew_and_captions_withheld"),
    Mutant("Times with much noise get the small weights and those with little the large.",
           f"{SD}/losses.py", "(gamma / ratio).clamp(max=1)", "(ratio / gamma).clamp(max=1)",
           "test_sd_train.py::test_losses_are_those_of_their_formulas"),
    Mutant("The second stage begins in the middle of the rate's fall.",
           f"{SD}/run.py", "(self.step - args.vae_steps, args.steps - args.vae_steps,",
           "(self.step, args.steps,",
           "test_sd_train.py::test_rows_belong_to_stages_and_rates_fall_in_each"),
]
